"""The tables, and how a database gets them."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ..common.cache import Recent
from ..common.config import CONFIG
from ..common.errors import DatabaseError, NoEmbeddings, QueryError
from .ordinary_tables import Columns, Declared, check_columns, check_is_table, declared

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
MIGRATIONS = "datasette_clip_search"
KNOWN_MIGRATIONS = (
    "m001_create_tables",
    "m002_keys_and_precisions",
    "m003_changes",
    "m004_towers",
    "m005_publication",
    "m006_kept_rows",
    "m007_places",
)
# So much of a picture's content_hash is beside what was made from it.
HASH_KEPT = 16


def create_tables(connection: sqlite3.Connection, table: str) -> list[str]:
    """Gives a database our tables, with `table` as the one of the pictures; idempotent.

    Runs inside the caller's transaction. What has been done to a database is recorded by
    sqlite-utils' migrations; what others have dropped since is restored, and returned in words.
    """
    # Here, because it needs what stands below.
    from .repair import restore

    migrate(connection, table)
    return restore(connection, table)


def migrate(connection: sqlite3.Connection, table: str) -> None:
    """Applies the migrations that a database has not had yet."""
    # Here, because sqlite-utils imports this package while it is itself being imported.
    from sqlite_utils import Database, Migrations

    migrations = Migrations(MIGRATIONS)

    @migrations()
    def m001_create_tables(db: Database) -> None:
        for statement in _m001(quote(table)):
            db.execute(statement)

    @migrations()
    def m002_keys_and_precisions(db: Database) -> None:
        # Without a type, so that a key is what it is in the table that it comes from.
        db.execute(f"alter table {quote(table)} add column key")
        db.execute(f"alter table {EMBEDDINGS} add column precision text")
        db.execute(f"alter table {MODELS} add column calibration text")

    @migrations()
    def m003_changes(db: Database) -> None:
        for statement in _m003():
            db.execute(statement)

    @migrations()
    def m004_towers(db: Database) -> None:
        # Parts are small, so that a page of Datasette's that shows some stays so.
        db.execute(f"""create table {TOWERS} (
            model_id integer not null references {MODELS}(id) on delete cascade,
            tower text not null,
            part integer not null,
            precision text,
            data blob not null,
            primary key (model_id, tower, part)
        )""")

    @migrations()
    def m005_publication(db: Database) -> None:
        db.execute(
            f"""create table {PUBLICATION} (
                published text not null,
                release text not null,
                originals_url text
            )"""
        )

    @migrations()
    def m006_kept_rows(db: Database) -> None:
        for statement in _m006(quote(table)):
            db.execute(statement)

    @migrations()
    def m007_places(db: Database) -> None:
        db.execute(f"create table {PLACES} (path text primary key)")

    migrations.apply(Database(connection, execute_plugins=False))


def _m001(images: str) -> tuple[str, ...]:
    touch = f"update {MODELS} set revision = random() where id in"
    return (
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
            camera text
        )""",
        # The same bytes under a second path are found by this.
        f"create index clip_content_hash on {images} (content_hash)",
        f"""create table {MODELS} (
            id integer primary key,
            name text not null,
            pretrained text not null,
            dimension integer not null,
            fingerprint text not null unique,
            preprocess text not null,
            is_default integer not null,
            revision integer not null
        )""",
        # The foreign key is also how every later command and query finds the pictures' table:
        # SQLite keeps it right when the table is renamed.
        f"""create table {EMBEDDINGS} (
            model_id integer not null references {MODELS}(id) on delete cascade,
            image_id integer not null references {images}(id) on delete cascade,
            embedding blob not null,
            primary key (model_id, image_id)
        )""",
        f"""create table {THUMBNAILS} (
            image_id integer primary key references {images}(id) on delete cascade,
            format text not null,
            data blob not null
        )""",
        f"""create table {FAILURES} (
            path text primary key,
            reason text not null,
            failed text not null,
            size integer,
            mtime real
        )""",
        # SQLite enforces foreign keys only where a connection asks for it; most never do.
        f"""create trigger clip_image_deleted after delete on {images} begin
            delete from {EMBEDDINGS} where image_id = old.id;
            delete from {THUMBNAILS} where image_id = old.id;
        end""",
        # Whoever changes the vectors, and however, no index made before is taken for fresh.
        f"""create trigger clip_embedding_inserted after insert on {EMBEDDINGS} begin
            {touch} (new.model_id);
        end""",
        f"""create trigger clip_embedding_updated after update on {EMBEDDINGS} begin
            {touch} (old.model_id, new.model_id);
        end""",
        f"""create trigger clip_embedding_deleted after delete on {EMBEDDINGS} begin
            {touch} (old.model_id);
        end""",
    )


def history_triggers() -> tuple[str, ...]:
    """Returns the statements that make what notes every change of a vector."""

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


def _m003() -> tuple[str, ...]:
    return (
        *(
            f"drop trigger if exists clip_embedding_{done}"
            for done in ("inserted", "updated", "deleted")
        ),
        # The newest row of a model always stays: it says which history this is.
        f"""create table {CHANGES} (
            model_id integer not null references {MODELS}(id) on delete cascade,
            seq integer not null,
            image_id integer,
            revision integer not null,
            primary key (model_id, seq)
        ) without rowid""",
        f"insert into {CHANGES} select id, 1, null, revision from {MODELS}",
        *history_triggers(),
    )


def hash_kept(content_hash: str) -> str:
    """Returns the SQL of what is kept of a content_hash, an SQL expression."""
    return f"substr({content_hash}, 1, {HASH_KEPT})"


def picture_triggers(images: str) -> tuple[str, ...]:
    """Returns the statements that make what keeps vectors and thumbnails with their pictures.

    REPLACE deletes a row and inserts it again, and fires the triggers of both where
    recursive_triggers is on, as sqlite-utils has it. So an insert notes the rows that it may
    replace; what belongs to them is deleted after it, unless the same content is back under the
    same id. INSERT OR IGNORE, and an upsert, leave their note behind. It counts for nobody else:
    'now' is one moment for all of a statement, and another for the next one.
    """
    now = "julianday('now')"

    def forget(condition: str) -> str:
        tables = (EMBEDDINGS, THUMBNAILS)
        return "; ".join(f"delete from {each} where {condition}" for each in tables) + ";"

    was = f"""select r.content_hash from {REPLACED} as r
                where r.image_id = new.id and r.at = {now}"""
    # Of another content than the row before, or of none that can be told.
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


def _m006(images: str) -> tuple[str, ...]:
    return (
        f"alter table {images} add column key_table text",
        # None stands for whatever the picture holds: other programs write vectors, too.
        f"alter table {EMBEDDINGS} add column made_from text",
        f"alter table {THUMBNAILS} add column made_from text",
        # By it a picture's vectors are found, and that all belong to theirs is seen without
        # reading a vector.
        f"create index clip_embedding_image on {EMBEDDINGS} (image_id, model_id, made_from)",
        f"create index clip_thumbnail_image on {THUMBNAILS} (image_id, made_from)",
        f"""create table {REPLACED} (
            image_id integer not null,
            content_hash text not null,
            at real not null
        )""",
        # The ids of pictures that may come back, as those of a disk that was not mounted.
        f"""create table {PRUNED} (
            image_id integer primary key,
            content_hash text not null
        )""",
        f"create index clip_pruned_content on {PRUNED} (content_hash)",
        "drop trigger if exists clip_image_deleted",
        *picture_triggers(images),
    )


def _columns(key: str, others: str = "", facts: str = "") -> Columns:
    names = frozenset(key.split())
    return Columns(names, names | frozenset(others.split()), frozenset(facts.split()))


# What is read of our tables, as every release has made them.
# Their keys are not asked for where a rebuilt table may have another one: it is then slower.
_IMAGES = _columns(
    "",
    "id path content_hash",
    "size mtime width height format taken latitude longitude camera key key_table",
)
_COLUMNS = {
    MODELS: _columns("id", "name pretrained dimension fingerprint preprocess is_default revision"),
    EMBEDDINGS: _columns("", "model_id image_id embedding", "precision made_from"),
    THUMBNAILS: _columns("", "image_id format data", "made_from"),
    FAILURES: _columns("path", "reason failed size mtime"),
    CHANGES: _columns("", "model_id seq image_id revision"),
    TOWERS: _columns("model_id tower part", "precision data"),
    PUBLICATION: _columns("", "published release originals_url"),
    "_sqlite_migrations": _columns("", "migration_set name"),
}


@dataclass(frozen=True)
class Model:
    """A row of clip_models.

    `revision` is a random 64-bit number, a new one after every change of the model's vectors: an
    index or a loaded collection with the same number holds the same vectors.
    """

    id: int
    name: str
    pretrained: str
    dimension: int
    fingerprint: str
    preprocess: str
    revision: int

    @property
    def has_path(self) -> bool:
        """Whether its pretraining is a file or folder of the owner's, rather than a tag."""
        return any(separator in self.pretrained for separator in "/\\")

    @property
    def label(self) -> str:
        """The model with its pretraining, unless that is a file of the owner's."""
        is_tag = self.pretrained and not self.has_path
        return f"{self.name} ({self.pretrained})" if is_tag else self.name


def fetch(connection: sqlite3.Connection, sql: str, *parameters: object) -> sqlite3.Cursor:
    """Runs a statement whose rows are tuples of plain values, however the connection is set up."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(sql, parameters)


def is_table_name(name: str) -> bool:
    """Tells whether a table of the pictures can have this name."""
    reserved = {*OWN_TABLES, "_sqlite_migrations"}
    return name.strip() != "" and name.lower() not in reserved and name[:7].lower() != "sqlite_"


def quote(name: str) -> str:
    """Quotes a table's or column's name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def images_table(connection: sqlite3.Connection) -> str | None:
    """Return the name of the pictures' table, or None where there is none yet.

    Raises DatabaseError for tables from a newer release, tables of the same names that are not
    ours, and for views and others that only look like ours.
    """
    found = declared(connection, _NAMES)
    if (known := _images_tables.get(found)) and _is_declared(connection, known):
        _check_migrations(_applied(connection), found)
        return known[0][0]
    ours = {each[0].lower(): each for each in found}
    if not ours.keys() & set(OWN_TABLES):
        return None
    for each in ours.keys() - {CONFIG.table}:
        check_is_table(ours[each])
    applied = []
    if _MIGRATIONS in ours:
        check_columns(connection, _MIGRATIONS, _COLUMNS[_MIGRATIONS])
        applied = _applied(connection)
    _check_migrations(applied, found)
    images = _referenced(connection, found)
    check_is_table(images)
    check_columns(connection, images[0], _IMAGES)
    for name in ours.keys() & _COLUMNS.keys():
        check_columns(connection, name, _COLUMNS[name])
    _images_tables.put(found, (images, images in found))
    return images[0]


# Whatever the schema says of our tables, the pictures' table that goes with it, and whether that is
# among what it says: a schema that was found to be in order once need not be looked at again.
_images_tables: Recent[tuple[Declared, ...], tuple[Declared, bool]] = Recent(64)

_MIGRATIONS = "_sqlite_migrations"
_NAMES = (*OWN_TABLES, _MIGRATIONS, CONFIG.table)
# A set of ours has some; nobody's has so many.
_MOST_MIGRATIONS = 100


def _is_declared(connection: sqlite3.Connection, known: tuple[Declared, bool]) -> bool:
    """Tell whether a pictures' table is still as it was found to be in order."""
    images, is_among = known
    return is_among or declared(connection, (images[0],)) == (images,)


def _applied(connection: sqlite3.Connection) -> list[object]:
    sql = f"""select substr(name, 1, 200) from main.{_MIGRATIONS} where migration_set = ?
        limit {_MOST_MIGRATIONS}"""
    return [name for (name,) in fetch(connection, sql, MIGRATIONS)]


def _check_migrations(applied: list[object], found: Iterable[Declared]) -> None:
    if newer := sorted({str(name) for name in applied}.difference(KNOWN_MIGRATIONS)):
        raise DatabaseError(
            f"The database was written by a newer release (it has {', '.join(newer)[:200]}). "
            "Run: pip install --upgrade datasette-clip-search"
        )
    if not applied:
        raise _not_ours(found)


def check_migrations_table(connection: sqlite3.Connection) -> None:
    """Raise DatabaseError where migrations would be noted in what is no ordinary table."""
    for found in declared(connection, (_MIGRATIONS,)):
        check_is_table(found)


def _not_ours(found: Iterable[Declared]) -> DatabaseError:
    taken = ", ".join(sorted(name for name, *_ in found if name.lower() in OWN_TABLES))
    return DatabaseError(
        f"The database has tables of its own named {taken}, which embed-images did not make"
    )


def _referenced(connection: sqlite3.Connection, found: Iterable[Declared]) -> Declared:
    """Return the pictures' table, which the vectors' table refers to."""
    for _, _, table, column, *_ in fetch(connection, f"pragma main.foreign_key_list({EMBEDDINGS})"):
        if column == "image_id":
            if images := declared(connection, (str(table),)):
                return images[0]
            raise DatabaseError(
                f"The database has no table {table[:80]}, which its vectors refer to as the one of "
                "the pictures. If it was rebuilt under another name, run: sqlite-utils clip-index"
            )
    raise _not_ours(found)


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Tells whether a database has a table: those of earlier releases lack the newer ones."""
    sql = "select 1 from main.sqlite_master where type = 'table' and name = ?"
    return fetch(connection, sql, name).fetchone() is not None


def has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    """Tells whether one of our tables has a column: those of earlier releases lack some."""
    try:
        # Prepared once for a connection, which a pragma is not.
        fetch(connection, f"select {column} from main.{quote(table)} limit 0").close()
    except sqlite3.OperationalError as error:
        if "no such column" in str(error):
            return False
        raise
    return True


def facts(connection: sqlite3.Connection, table: str, *names: str) -> str:
    """Returns the SQL of a picture's facts, null for those whose columns were taken away."""
    rows = fetch(connection, f"pragma main.table_info({quote(table)})")
    there = {str(name).lower() for _, name, *_ in rows}
    return ", ".join(name if name in there else f"null as {name}" for name in names)


def made_from_it(
    connection: sqlite3.Connection, of: str, picture: str, table: str = EMBEDDINGS
) -> str:
    """Returns the SQL condition that a row, a vector or thumbnail, shows what a picture holds.

    In a statement `of` is what the rows of the table are called, and `picture` the pictures: one
    with a picture's id may be of what that held before.
    """
    # Databases of earlier releases don't say.
    if not has_column(connection, table, "made_from"):
        return "true"
    kept = hash_kept(f"{picture}.content_hash")
    return f"({of}.made_from is null or {of}.made_from = {kept})"


def is_published(connection: sqlite3.Connection) -> bool:
    """Tells whether clip-publish wrote a database."""
    if not has_table(connection, PUBLICATION):
        return False
    return fetch(connection, f"select 1 from main.{PUBLICATION}").fetchone() is not None


def models(connection: sqlite3.Connection) -> list[Model]:
    """Return the models that have embedded pictures here, the default first.

    Where none is the default, or several are, it is the one that was added first. Raises
    DatabaseError for rows that no release wrote.
    """
    sql = f"select {_MODEL} from main.{MODELS} {_IN_ORDER}"
    return _read_models(fetch(connection, sql).fetchall())


# Anyone may have made a database: nothing of it is read without a bound.
_MODEL = f"""id, substr(name, 1, {CONFIG.max_name_characters + 1}),
    substr(pretrained, 1, {CONFIG.max_path_characters + 1}), dimension,
    substr(fingerprint, 1, {CONFIG.max_name_characters + 1}),
    substr(preprocess, 1, {CONFIG.max_path_characters + 1}), revision"""
_IN_ORDER = f"order by is_default desc, id limit {CONFIG.max_models + 1}"


def _read_models(rows: list[tuple[object, ...]]) -> list[Model]:
    if len(rows) > CONFIG.max_models:
        raise DatabaseError(
            f"{MODELS} has more than {CONFIG.max_models} models, the limit of this release"
        )
    return [_read_model(row) for row in rows]


@lru_cache(64)
def _read_model(row: tuple[object, ...]) -> Model:
    """Return what a row of clip_models says; raises DatabaseError where that can't be true."""
    id, name, pretrained, dimension, fingerprint, preprocess, revision = row
    if not (isinstance(id, int) and isinstance(revision, int)):
        raise _no_model("id or revision is not an integer")
    if not (isinstance(dimension, int) and 1 <= dimension <= CONFIG.max_dimension):
        raise _no_model(f"dimension is not an integer from 1 to {CONFIG.max_dimension}")
    short, long = CONFIG.max_name_characters, CONFIG.max_path_characters
    if not (isinstance(name, str) and isinstance(pretrained, str)):
        raise _no_model("name or pretrained is not text")
    if not (isinstance(fingerprint, str) and isinstance(preprocess, str)):
        raise _no_model("fingerprint or preprocess is not text")
    if max(len(name), len(fingerprint)) > short or max(len(pretrained), len(preprocess)) > long:
        raise _no_model(f"name or fingerprint is longer than {short} characters, or another {long}")
    return Model(id, name, pretrained, dimension, fingerprint, preprocess, revision)


def _no_model(how: str) -> DatabaseError:
    return DatabaseError(f"The table {MODELS} has a row that embed-images did not write: its {how}")


def default_model(connection: sqlite3.Connection) -> tuple[str, Model]:
    """Returns the pictures' table and the model that queries mean.

    Raises NoEmbeddings for a database without any.
    """
    return choose_model(connection, None)


def _usual(connection: sqlite3.Connection) -> tuple[str, list[Model]] | None:
    """Return what images_table() and models() do, by fewer statements.

    None is for all that needs a closer look, or an error.
    """
    known = _images_tables.get(declared(connection, _NAMES))
    if not known or not _is_declared(connection, known):
        return None
    sql = f"""select (select json_group_array(name) from (
            select substr(name, 1, 200) as name from main.{_MIGRATIONS} where migration_set = ?
            limit {_MOST_MIGRATIONS}
        )), {_MODEL} from main.{MODELS} {_IN_ORDER}"""
    rows = fetch(connection, sql, MIGRATIONS).fetchall()
    if not rows or not _is_known(rows[0][0]):
        return None
    return known[0][0], _read_models([row[1:] for row in rows])


@lru_cache(64)
def _is_known(applied: str) -> bool:
    """Tells whether migrations, a JSON list of names, are some of ours and no others."""
    names = json.loads(applied)
    return bool(names) and set(names) <= set(KNOWN_MIGRATIONS)


def choose_model(connection: sqlite3.Connection, wanted: object) -> tuple[str, Model]:
    """Returns the pictures' table and a model of the database: the default one for None.

    `wanted` is a model's id, its name, or its name with the pretraining as `Model.label` has it;
    Datasette's named parameters are text, so the digits of an id will do.

    Raises NoEmbeddings for a database without any, QueryError for a model that isn't there or a
    name that several have.
    """
    table, known = _usual(connection) or (images_table(connection), [])
    if table and not known:
        known = models(connection)
    if not table or not known:
        raise NoEmbeddings(
            "This database holds no embeddings to search. "
            "Make some with: sqlite-utils embed-images DATABASE FOLDER"
        )
    if wanted is None:
        return table, known[0]
    names = [(model.id, str(model.id), model.name, model.label) for model in known]
    found = [model for model, own in zip(known, names, strict=True) if wanted in own]
    if len(found) == 1:
        return table, found[0]
    which = ", ".join(f"{model.id} {model.label}" for model in sorted(known, key=lambda m: m.id))
    shown = repr(wanted)[:80]
    if found:
        what = f"Several models are called {shown} in this database; give the id of one"
    else:
        what = f"There is no model {shown} in this database"
    raise QueryError(f"{what}. It has, by id and name: {which}")
