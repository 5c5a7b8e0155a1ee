"""The tables, indexes and triggers of a database, and the migrations that make them."""

import sqlite3

from .connection import quote

MODELS = "clip_models"
EMBEDDINGS = "clip_embeddings"
THUMBNAILS = "clip_thumbnails"
FAILURES = "clip_failures"
CHANGES = "clip_changes"
TOWERS = "clip_towers"
PUBLICATION = "clip_publication"
REPLACED = "clip_replaced"
PRUNED = "clip_pruned"
PLACES = "clip_places"
OWN_TABLES = (
    *(MODELS, EMBEDDINGS, THUMBNAILS, FAILURES, CHANGES, TOWERS, PUBLICATION),
    *(REPLACED, PRUNED, PLACES),
)
# The table in which sqlite-utils records the migrations of all programs, and the name of ours.
MIGRATIONS_TABLE = "_sqlite_migrations"
MIGRATIONS = "datasette_clip_search"
KNOWN_MIGRATIONS = ("create",)
# How much of a picture's content_hash is stored with each vector and thumbnail made from it.
HASH_KEPT = 16


def is_table_name(name: str) -> bool:
    """Tell whether the pictures' table can have this name."""
    reserved = {*OWN_TABLES, MIGRATIONS_TABLE}
    return name.strip() != "" and name.lower() not in reserved and name[:7].lower() != "sqlite_"


def migrate(connection: sqlite3.Connection, table: str) -> None:
    """Apply the migrations that a database lacks; `table` is the name of the pictures' table."""
    # Imported here because sqlite-utils imports this package while it is itself being imported.
    from sqlite_utils import Database, Migrations

    migrations = Migrations(MIGRATIONS)

    @migrations()
    def create(db: Database) -> None:
        for statement in _statements(quote(table)):
            db.execute(statement)

    migrations.apply(Database(connection, execute_plugins=False))


def _statements(images: str) -> tuple[str, ...]:
    """Return the SQL of all tables, indexes and triggers; `images` is a quoted name."""
    return (
        # `key` has no type, so that a key keeps the type that it has in its own table.
        f"""create table {images} (
            id integer primary key,
            path text not null unique,
            content_hash text not null,
            size integer not null,
            mtime real not null,
            width integer not null,
            height integer not null,
            format text not null,
            taken text,
            latitude real,
            longitude real,
            camera text,
            key,
            key_table text
        )""",
        # Finds the same bytes under a second path.
        f"create index clip_content_hash on {images} (content_hash)",
        f"""create table {MODELS} (
            id integer primary key,
            name text not null,
            pretrained text not null,
            dimension integer not null,
            fingerprint text not null unique,
            preprocess text not null,
            is_default integer not null,
            revision integer not null,
            calibration text
        )""",
        # Every later command and query finds the pictures' table by the foreign key: SQLite keeps
        # it right when the table is renamed. A null in made_from stands for any content: other
        # programs write vectors, too.
        f"""create table {EMBEDDINGS} (
            model_id integer not null references {MODELS}(id) on delete cascade,
            image_id integer not null references {images}(id) on delete cascade,
            embedding blob not null,
            precision text,
            made_from text,
            primary key (model_id, image_id)
        )""",
        # Finds a picture's vectors, and shows without reading one that each belongs to its picture.
        f"create index clip_embedding_image on {EMBEDDINGS} (image_id, model_id, made_from)",
        f"""create table {THUMBNAILS} (
            image_id integer primary key references {images}(id) on delete cascade,
            format text not null,
            data blob not null,
            made_from text
        )""",
        f"create index clip_thumbnail_image on {THUMBNAILS} (image_id, made_from)",
        f"""create table {FAILURES} (
            path text primary key,
            reason text not null,
            failed text not null,
            size integer,
            mtime real
        )""",
        # The newest row of a model always stays: it identifies the history.
        f"""create table {CHANGES} (
            model_id integer not null references {MODELS}(id) on delete cascade,
            seq integer not null,
            image_id integer,
            revision integer not null,
            primary key (model_id, seq)
        ) without rowid""",
        # Parts are small, so that Datasette's page of a hundred rows stays small.
        f"""create table {TOWERS} (
            model_id integer not null references {MODELS}(id) on delete cascade,
            tower text not null,
            part integer not null,
            precision text,
            data blob not null,
            primary key (model_id, tower, part)
        )""",
        f"""create table {PUBLICATION} (
            published text not null,
            release text not null,
            originals_url text
        )""",
        f"""create table {REPLACED} (
            image_id integer not null,
            content_hash text not null,
            at real not null
        )""",
        # The ids of pictures that may come back, such as those of an unmounted disk.
        f"""create table {PRUNED} (
            image_id integer primary key,
            content_hash text not null
        )""",
        f"create index clip_pruned_content on {PRUNED} (content_hash)",
        f"create table {PLACES} (path text primary key)",
        *history_triggers(),
        *picture_triggers(images),
    )


def history_triggers() -> tuple[str, ...]:
    """Return the SQL of the triggers that record every change of a vector in clip_changes."""

    def note(model_id: str, image_id: str) -> str:
        return f"""insert into {CHANGES} (model_id, seq, image_id, revision)
            select id, 1 + coalesce((select max(seq) from {CHANGES} where model_id = id), 0),
                {image_id}, revision from {MODELS} where id = {model_id};"""

    def changed(row: str) -> str:
        touch = f"update {MODELS} set revision = random() where id = {row}.model_id"
        return f"{touch}; {note(f'{row}.model_id', f'{row}.image_id')}"

    return (
        f"""create trigger clip_model_inserted after insert on {MODELS} begin
            {note("new.id", "null")}
        end""",
        f"""create trigger clip_embedding_inserted after insert on {EMBEDDINGS} begin
            {changed("new")}
        end""",
        f"""create trigger clip_embedding_updated after update on {EMBEDDINGS} begin
            {changed("old")}
        end""",
        f"""create trigger clip_embedding_moved after update on {EMBEDDINGS}
        when old.model_id != new.model_id or old.image_id != new.image_id begin
            {changed("new")}
        end""",
        f"""create trigger clip_embedding_deleted after delete on {EMBEDDINGS} begin
            {changed("old")}
        end""",
    )


def hash_kept(content_hash: str) -> str:
    """Return the SQL of the stored part of `content_hash`, an SQL expression."""
    return f"substr({content_hash}, 1, {HASH_KEPT})"


def made_from_it(row: str, picture: str) -> str:
    """Return SQL that is true if a vector or thumbnail was made from its picture's present content.

    `row` and `picture` are the names of the two tables in the statement.
    """
    now = hash_kept(f"{picture}.content_hash")
    return f"({row}.made_from is null or {row}.made_from = {now})"


def picture_triggers(images: str) -> tuple[str, ...]:
    """Return the SQL of the triggers that keep vectors and thumbnails with their pictures.

    REPLACE deletes a row and inserts it again, and fires the triggers of both where
    recursive_triggers is on, as sqlite-utils sets it. So an insert first records the rows that it
    may replace. After it, their vectors and thumbnails are deleted, unless the same content is back
    under the same id. INSERT OR IGNORE and an upsert leave their record behind. No other statement
    takes it for its own: 'now' is one moment for a whole statement, and another for the next.
    """
    now = "julianday('now')"

    def forget(condition: str) -> str:
        tables = (EMBEDDINGS, THUMBNAILS)
        return "; ".join(f"delete from {each} where {condition}" for each in tables) + ";"

    was = f"""select r.content_hash from {REPLACED} as r
                where r.image_id = new.id and r.at = {now}"""
    # Made from other content than that of the previous row, or from unknown content.
    other = f"""image_id = new.id and case when exists ({was})
                then ({was}) is not new.content_hash
                else made_from is not {hash_kept("new.content_hash")} end"""
    gone = f"""image_id in (select image_id from {REPLACED} where at = {now})
                and image_id not in (select id from {images} where id = image_id)"""
    return (
        f"""create trigger clip_image_replaced before insert on {images}
        when exists (select 1 from {images} where id = new.id or path = new.path) begin
            delete from {REPLACED};
            insert into {REPLACED} select id, content_hash, {now} from {images}
                where id = new.id or path = new.path;
        end""",
        f"""create trigger clip_image_inserted after insert on {images} begin
            {forget(other)}
            {forget(gone)}
            delete from {REPLACED};
        end""",
        # SQLite enforces foreign keys only where a connection asks for it; most never do.
        f"""create trigger clip_image_deleted after delete on {images}
        when not exists (
            select 1 from {REPLACED} where image_id = old.id and at = {now}
        ) begin
            {forget("image_id = old.id")}
        end""",
        f"""create trigger clip_image_changed after update of id, content_hash on {images} begin
            update or replace {EMBEDDINGS} set image_id = new.id
                where image_id = old.id and old.id != new.id;
            update or replace {THUMBNAILS} set image_id = new.id
                where image_id = old.id and old.id != new.id;
            {forget("image_id = new.id and old.content_hash is not new.content_hash")}
        end""",
        f"""create trigger clip_image_upserted after update on {images}
        when exists (select 1 from {REPLACED}) begin
            delete from {REPLACED};
        end""",
    )
