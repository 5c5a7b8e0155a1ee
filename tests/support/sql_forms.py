"""Statements with clip_search(), each with one that returns the same rows from tables."""

VIEWS = """
    create view best as select rank, id, path from clip_search(
        (select embedding from clip_embeddings where image_id = 7), 12);
    create view uncounted as select rank, id, path from clip_search(
        (select embedding from clip_embeddings where image_id = 7));
    create view limited as select rank, id, path from clip_search(
        (select embedding from clip_embeddings where image_id = 7)) limit 15;
    create view outer_view as select * from best where id > 0;
    create view restricted as select rank, id, path from clip_search(
        (select embedding from clip_embeddings where image_id = 7), 12) where id in odd;
    create view odd as select id from images where id % 2 = 1;
    create view two as select * from best union all select rank, id, path from clip_search(
        (select embedding from clip_embeddings where image_id = 8), 12);
"""

# SQL, then the same over tables: `ranked` has all pictures, `odds` the odd ids, `five` those of
# (5, 10, 15, 20, 25), and `view7` and `view8` the results of the views.
S, K = "rank, id, path", "clip_search(:q, 12)"
FORMS = [
    # The call alone.
    (f"select {S} from {K}", f"select {S} from ranked where rank <= 12"),
    (f"select {S} from clip_search(:q)", f"select {S} from ranked where rank <= 10"),
    (f"select {S} from clip_search where query = :q and k = 12", "12"),
    (f"select {S} from {K} as x", "12"),
    (f"select x.rank, x.id, x.path from {K} x where x.rank > 3", "12 and rank > 3"),
    # One value of id, in every form.
    (f"select {S} from {K} where id = 165", "12 and id = 165"),
    (f"select {S} from {K} where id = :id", "12 and id = :id"),
    (f"select {S} from {K} where :id = id", "12 and id = :id"),
    (f"select {S} from {K} where id = (select 165)", "12 and id = 165"),
    (f"select {S} from {K} where id = cast(:text as integer)", "12 and id = :id"),
    (f"select {S} from {K} where id = :text", "12 and id = :id"),
    (f"select {S} from {K} where id = (select max(id) from images)", "12 and id = 300"),
    (f"select {S} from {K} where id is :id", "12 and id = :id"),
    (f"select {S} from {K} where id = :id or id = 165", "12 and id in (:id, 165)"),
    (f"select {S} from {K} where id between 100 and 200", "12 and id between 100 and 200"),
    (f"select {S} from {K} where not id in (:id, 3)", "12 and id not in (:id, 3)"),
    (f"select {S} from {K} where id in (:id, 3) or rank = 1", "12 and (id in (:id, 3) or rank=1)"),
    (f"select {S} from {K} where +id in (5, 10, 15, 20, 25)", "12 and id in (5, 10, 15, 20, 25)"),
    # Search within.
    (f"select {S} from {K} where id in (5, 10, 15, 20, 25)", f"select {S} from five"),
    (f"select {S} from {K} where id in (:id)", "select 1, id, path from ranked where id = :id"),
    (f"select {S} from {K} where id in (165)", "select 1, id, path from ranked where id = 165"),
    (f"select {S} from {K} where id in (select 165)", "select 1, 165, '165.jpg'"),
    (f"select {S} from {K} where id in (select id from images where id % 2)", "odds 12"),
    (f"select {S} from {K} where id in odd", "odds 12"),
    (f"select {S} from {K} s where s.id in odd and rank > 2", "odds 12 and rank > 2"),
    (f"select {S} from clip_search(:q) where id in odd", "odds 10"),
    (f"select {S} from clip_search(:q) where id in odd limit 25", "odds 25"),
    (f"select {S} from clip_search(:q) where id in odd and score > -9 limit 25", "odds 25"),
    (f"select {S} from {K} where id in odd and id in (5, 10, 15, 20, 25)", "five odd"),
    (
        f"select {S} from clip_search(:q, 12, null, (select json_group_array(id) from odd))",
        "odds 12",
    ),
    (
        f"select {S} from clip_search(:q, 12, null, (select json_group_array(id) from odd)) "
        "where id in (5, 10, 15, 20, 25)",
        "five odd",
    ),
    (f"with o as (select id from odd) select {S} from {K} where id in o", "odds 12"),
    (f"select {S} from (select * from {K} where id in odd)", "odds 12"),
    (f"select {S} from (select * from {K} where id in odd) where id in (1, 3, :id)", "odds 12 3"),
    (f"select {S} from (select * from {K} where id in odd) where id = :id", "odds 12 id"),
    # Conditions outside do not change the search.
    (f"select {S} from (select * from {K}) where id in (:id, 165)", "12 and id in (:id, 165)"),
    (f"select {S} from (select * from {K}) where id in (:id)", "12 and id = :id"),
    (
        f"with c as (select * from {K}) select {S} from c where id in (:id, 165)",
        "12 and id in (:id, 165)",
    ),
    (f"with c as (select * from {K}) select {S} from c where id in odd", "12 and id % 2"),
    (
        f"with c as materialized (select * from {K}) select {S} from c where id in odd",
        "12 and id % 2",
    ),
    (
        f"with c as (select * from {K}), d as (select * from c) select {S} from d where id in odd",
        "12 and id % 2",
    ),
    (
        f"select {S} from (select * from {K} union all select * from clip_search(:q, 2)) "
        "where id in odd",
        f"select {S} from ranked where rank <= 12 and id % 2 union all select {S} from ranked "
        "where rank <= 2 and id % 2",
    ),
    ("select rank, id, path from best where id = 165", "view7 12 and id = 165"),
    ("select rank, id, path from best where id = :id", "view7 12 and id = :id"),
    ("select rank, id, path from best where id in (:id, 165)", "view7 12 and id in (:id, 165)"),
    ("select rank, id, path from best where id in odd", "view7 12 and id % 2"),
    ("select rank, id, path from outer_view where id in (select 165)", "view7 12 and id = 165"),
    ("select * from (select * from best limit 101) where id in odd", "view7 12 and id % 2"),
    ("select rank, id, path from two where id in odd", "two and id % 2"),
    ("select rank, id, path from two where id = :id", "two and id = :id"),
    ("select rank, id, path from restricted", "odd7 12"),
    ("select rank, id, path from restricted where id in (1, 3, 165)", "odd7 12 3"),
    ("select rank, id, path from restricted where id % 3 = 0 limit 2", "odd7 12 % 3"),
    ("select rank, id, path from uncounted", "view7 10"),
    ("select rank, id, path from uncounted limit 3", "view7 10 limit 3"),
    ("select rank, id, path from uncounted limit 100", "view7 10"),
    ("select rank, id, path from uncounted order by rank limit 100", "view7 10"),
    ("select rank, id, path from uncounted order by path limit 100", "view7 10"),
    ("select rank, id, path from uncounted where id > 0 limit 100", "view7 10"),
    ("select rank, id, path from uncounted limit 5 offset 8", "view7 10 8"),
    ("select count(*), 0, 0 from uncounted limit 5", "select 10, 0, 0"),
    ("select count(*), 0, 0 from (select * from uncounted limit 100)", "select 10, 0, 0"),
    ("select rank, id, path from limited", "view7 15"),
    ("select rank, id, path from limited limit 100", "view7 15"),
    ("select rank, id, path from limited where id in odd", "view7 15 odd"),
    ("select count(*), 0, 0 from limited", "select 15, 0, 0"),
    # Joins, in both orders.
    (
        f"select s.{', i.'.join(['rank', 'id', 'path'])} from {K} s join images i using (id)",
        "12",
    ),
    (f"select rank, i.id, i.path from images i join {K} s on s.id = i.id", "12"),
    (f"select rank, i.id, i.path from images i, {K} s where s.id = i.id and i.id = :id", "12 id"),
    (f"select rank, i.id, i.path from {K} s join images i using (id) where i.id = 165", "12 165"),
    (f"select rank, i.id, i.path from {K} s join images i using (id) where i.id = :id", "12 id"),
    (f"select rank, i.id, i.path from {K} s join images i using (id) where s.id = :id", "12 id"),
    (
        f"select rank, i.id, i.path from {K} s join images i on i.id = s.id "
        "where i.path = (select path from images where id = 165)",
        "12 165",
    ),
    (
        f"select rank, i.id, i.path from {K} s join images i on i.id = s.id where i.id in odd",
        "12 and id % 2",
    ),
    (
        f"select rank, i.id, i.path from images i join {K} s using (id) where id in odd",
        "12 and id % 2",
    ),
    (f"select rank, i.id, i.path from {K} s join images i using (id) where id in odd", "odds 12"),
    (f"select rank, i.id, i.path from {K} s join images i using (id) where s.id in odd", "odds 12"),
    (f"select rank, i.id, i.path from images i join {K} s using (id) where s.id in odd", "odds 12"),
    (
        f"select s.rank, i.id, i.path from images i left join {K} s on s.id = i.id",
        "select s.rank, i.id, i.path from images i left join ranked s on s.id = i.id and s.rank "
        "<= 12",
    ),
    (
        f"select s.rank, i.id, i.path from images i left join {K} s on s.id = i.id and s.id in odd",
        "select s.rank, i.id, i.path from images i left join odds s on s.id = i.id and s.rank "
        "<= 12",
    ),
    (
        f"select s.rank, s.id, i.path from {K} s left join images i on i.id = s.id and i.id in odd",
        "select s.rank, s.id, i.path from ranked s left join images i on i.id = s.id and i.id % 2 "
        "where s.rank <= 12",
    ),
    (
        f"select a.rank, a.id, b.path from {K} a join clip_search(:q, 5) b using (id)",
        "12 and rank <= 5",
    ),
    (
        f"select a.rank, a.id, b.path from {K} a join clip_search(:q, 5) b using (id) "
        "where b.id in odd",
        "select a.rank, a.id, a.path from ranked a join odds b using (id) where a.rank <= 12 and "
        "b.rank <= 5",
    ),
    (
        f"select a.rank, a.id, b.path from {K} a join best b on b.id = a.id where b.id in odd",
        "select a.rank, a.id, a.path from ranked a join view7 b using (id) where a.rank <= 12 and "
        "b.rank <= 12 and a.id % 2",
    ),
    # Subqueries.
    (f"select 0, id, path from images where id in (select id from {K})", "12 0"),
    (f"select 0, id, path from images where id in (select id from {K} where id in odd)", "odd 0"),
    (
        f"select 0, id, path from images i where exists (select 1 from {K} s where s.id = i.id)",
        "12 0",
    ),
    (
        f"select 0, id, path from images i where exists (select 1 from {K} s where s.id = i.id "
        "limit 1)",
        "12 0",
    ),
    (
        "select 0, id, path from images i where exists (select 1 from clip_search(:q) s "
        "where s.id = i.id limit 1)",
        "10 0",
    ),
    (
        f"select 0, id, path from images i where not exists (select 1 from {K} s "
        "where s.id = i.id)",
        "select 0, id, path from ranked where rank > 12",
    ),
    (
        f"select (select rank from {K} s where s.id = i.id), id, path from images i",
        "select case when rank <= 12 then rank end, id, path from ranked",
    ),
    (
        "select (select rank from clip_search(:q) s where s.id = i.id limit 1), id, path "
        "from images i",
        "select case when rank <= 10 then rank end, id, path from ranked",
    ),
    # Limits without k.
    (f"select {S} from clip_search(:q) limit 20", "20"),
    (f"select {S} from clip_search where query = :q limit 20", "20"),
    (f"select {S} from clip_search(:q) limit 0", "0"),
    (f"select {S} from clip_search(:q) limit :n", "20"),
    (f"select {S} from clip_search(:q) limit -1", "300"),
    (f"select {S} from clip_search(:q) limit (-1)", "300"),
    (f"select {S} from clip_search(:q) limit -1 + 21", "20"),
    (f"select {S} from clip_search(:q) limit -20 + 40 offset -3 + 8", "25 and rank > 5"),
    (f"select {S} from clip_search(:q) limit 20 offset 10", "30 and rank > 10"),
    (f"select {S} from clip_search(:q) order by rank limit 20", "20"),
    (f"select {S} from clip_search(:q) order by score desc limit 20", "20"),
    (f"select {S} from clip_search(:q) order by z_score desc limit :n", "20"),
    (f"select {S} from clip_search(:q) s order by s.rank asc, path limit 20", "20"),
    (f"select {S} from clip_search(:q) order by 1 limit 20", "20"),
    (f"select {S} from clip_search(:q) where z_score > -100 limit 20", "20"),
    (f"select {S} from clip_search(:q) where id % 2 limit 20", "first odd"),
    (f"select {S} from clip_search(:q) where id % 2 order by score desc limit 20", "first odd"),
    (f"select {S} from clip_search(:q) where id = 165 limit 1", "300 and id = 165"),
    ("select rank, i.id, i.path from clip_search(:q) s join images i using (id) limit 20", "20"),
    ("select rank, i.id, i.path from images i join clip_search(:q) s using (id) limit 20", "20"),
    (
        "select rank, i.id, i.path from clip_search(:q) s join images i using (id) "
        "order by s.rank limit 20",
        "20",
    ),
    (
        "select rank, i.id, i.path from clip_search(:q) s join images i using (id) "
        "where i.id % 2 order by score desc limit 20",
        "first odd",
    ),
    (
        "select rank, i.id, i.path from clip_search(:q) s left join images i using (id) limit 20",
        "20",
    ),
    (f"select {S} from clip_search((select :q)) s, (values (1)) limit 20", "20"),
    (f"select {S} from (select * from clip_search(:q)) limit 20", "20"),
    (f"select {S} from (select * from clip_search(:q)) where id % 2 limit 20", "first odd"),
    (f"select {S} from (select * from clip_search(:q) limit 20)", "20"),
    (f"select {S} from (select * from clip_search(:q) limit 20) limit 5", "5"),
    (f"with c as (select * from clip_search(:q)) select {S} from c limit 20", "20"),
    (f"with c as (select * from clip_search(:q) limit 20) select {S} from c", "20"),
    (
        "with c as (select * from clip_search(:q)) select rank, i.id, i.path from c "
        "join images i using (id) order by rank limit 20",
        "20",
    ),
    (
        "select 0, id, path from images where id in (select id from clip_search(:q) limit 20)",
        "20 0",
    ),
    (
        "select distinct 0, 0, rank % 3 from clip_search(:q) limit 20",
        "select distinct 0, 0, rank % 3 from ranked",
    ),
    # Limits with k.
    (f"select {S} from {K} limit 20", "12"),
    (f"select {S} from {K} order by rank limit 5", "5"),
    (f"select {S} from {K} order by path limit 100", "12"),
    (f"select {S} from {K} where id % 2 limit 100", "12 and id % 2"),
    ("select count(*), 0, 0 from clip_search(:q)", "select 10, 0, 0"),
    ("select count(*), 0, 0 from clip_search(:q) limit 1", "select 10, 0, 0"),
    (
        "select count(*), max(rank), 0 from (select * from clip_search(:q)) limit 5",
        "select 10, 10, 0",
    ),
]
SHORT = {
    "odds 12 3": f"select {S} from odds where rank <= 12 and id in (1, 3, :id)",
    "odds 12 id": f"select {S} from odds where rank <= 12 and id = :id",
    "five odd": "select row_number() over (order by rank), id, path from five where id % 2",
    "first odd": f"select {S} from ranked where id % 2 order by rank limit 20",
    "two": f"select * from (select {S} from view7 where rank <= 12 union all "
    f"select {S} from view8 where rank <= 12) where true",
    "odd7 12": f"select {S} from odd7 where rank <= 12",
    "odd7 12 3": f"select {S} from odd7 where rank <= 12 and id in (1, 3, 165)",
    "odd7 12 % 3": f"select {S} from odd7 where rank <= 12 and id % 3 = 0 order by rank limit 2",
    "view7 15 odd": f"select {S} from view7 where rank <= 15 and id % 2",
    "view7 10 limit 3": f"select {S} from view7 where rank <= 3",
    "view7 10 8": f"select {S} from view7 where rank in (9, 10)",
    "12 id": f"select {S} from ranked where rank <= 12 and id = :id",
    "12 165": f"select {S} from ranked where rank <= 12 and id = 165",
    "12 0": "select 0, id, path from ranked where rank <= 12",
    "10 0": "select 0, id, path from ranked where rank <= 10",
    "20 0": "select 0, id, path from ranked where rank <= 20",
    "odd 0": "select 0, id, path from odds where rank <= 12",
}
UNCLEAR = [
    "select id from clip_search(:q) order by path limit 20",
    "select id from clip_search(:q) order by score limit 20",
    "select id from clip_search(:q) order by rank desc limit 20",
    "select id from clip_search(:q) order by rank + 1 limit 20",
    "select s.id from clip_search(:q) s join images i using (id) order by i.taken limit 20",
    "select s.id from images i left join clip_search(:q) s using (id) limit 20",
    "select s.id from images i, clip_search(iif(i.id, :q, :q)) s limit 20",
    "select id from clip_search where query in (:q, 7) limit 20",
    "select id from clip_search where (query = :q or query = 7) limit 20",
    "with v as (select :q as q) select s.id from v, clip_search s where s.query = v.q limit 20",
    "select id % 3, count(*) from clip_search(:q) group by 1 limit 20",
    "select id, row_number() over (order by id) from clip_search(:q) limit 20",
    "select id from clip_search(:q) union select id from clip_search(:q, 5) limit 20",
    "select id from clip_search(:q) union all select 7 limit 20",
    "select * from (select id from clip_search(:q) order by path) limit 20",
    "select * from (select path from clip_search(:q)) order by path limit 20",
    "with c as (select * from clip_search(:q)) select a.id from c a join c b using (id) limit 20",
]


def over_tables(short):
    """Return the full SQL of a short reference."""
    if short in SHORT:
        return SHORT[short]
    first, _, rest = short.partition(" and ")
    if first in SHORT:
        return f"{SHORT[first]} and {rest}"
    words = first.split()
    if words[0].isdigit():
        words = ["ranked", *words]
    if len(words) != 2 or not words[1].isdigit():
        return short
    where = f"rank <= {words[1]}" + (f" and {rest}" if rest else "")
    return f"select {S} from {words[0]} where {where}"
