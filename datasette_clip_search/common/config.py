"""The defaults and limits that a deployer may want to tune or an auditor may ask for.

A constant that only one algorithm uses is defined beside that algorithm.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """Defaults and limits; each comment says what the value protects or buys."""

    # Searches

    # The results of clip_search() without k: a screenful.
    default_k: int = 10
    # A larger k is an error, so that a typing mistake can't fill the memory of a server.
    max_k: int = 1_000_000
    # The weight of --minus. With a weight of 1, the subtracted words would decide the results more
    # than the words asked for.
    minus_weight: float = 0.5
    # The most queries in one clip_mix(); each of them may be a picture to decode.
    max_mix_terms: int = 16
    # CLIP reads 77 tokens, about 300 characters; more than this is a mistake or an attack.
    max_query_characters: int = 2_000
    # Anyone who can run SQL can pass ids to search within, as JSON. A million of seven digits, each
    # with a comma and a space, take 9 MB, and a third of a second once per statement.
    max_within_ids: int = 1_000_000
    max_within_characters: int = 10_000_000
    # A search within fewer pictures than this reads all of their vectors.
    fetched_within: int = 2000
    # Anyone who can run SQL can pass labels to clip_tags(), which encodes several prompts for each.
    max_labels: int = 100
    max_label_characters: int = 100
    # JSON may write a character as twelve, and put spaces between labels.
    max_labels_characters: int = 120_000

    # Pictures as queries

    # Anyone who can run SQL can send one, so it must be small enough to decode without harm.
    max_query_image_bytes: int = 10_000_000
    max_query_image_megapixels: float = 50
    # Only JPEGs can be decoded at a reduced scale; other formats must be small to begin with.
    max_query_image_decoded_megapixels: float = 6
    # A file of 300 KB can take a minute to decode; this limit ends it.
    query_decode_seconds: float = 2
    # The limit for ordinary pictures, which take a tenth of it. Slower ones get a decoder apart.
    quick_decode_seconds: float = 0.5
    # How many slower pictures wait at most, by the seconds that they may take and by their bytes.
    max_slow_seconds_waiting: float = 20
    max_slow_bytes_waiting: int = 20_000_000
    # How long a picture that hit the limit is refused at once.
    slow_pictures_refused_seconds: float = 60
    # The pictures that visitors send: all of them together in memory, and the time for one to
    # arrive.
    max_uploads_bytes: int = 50_000_000
    upload_seconds: float = 60
    # A small picture counts as this many bytes, because decoding and encoding it takes time, too:
    # 200 wait at most.
    least_upload_bytes: int = 250_000

    # Duplicates

    # The cosine of near-identical pictures: a smaller or re-encoded copy, a slight crop. A false
    # duplicate may cost a picture, a missed one only space.
    duplicate_threshold: float = 0.95
    # Below this, pictures are of one kind at most, and there are too many pairs to find fast.
    least_duplicate_threshold: float = 0.7
    # A pair takes 16 bytes of memory; 2,000 pictures that are all alike have this many.
    max_duplicate_pairs: int = 2_000_000
    # The most numbers that a comparison reads where the index does not hold the vectors: 2 GB on
    # one's own computer, and as much again while they are compared; a tenth of that on a public
    # server.
    max_duplicate_numbers: int = 550_000_000
    max_published_duplicate_numbers: int = 55_000_000

    # Caches

    # Snapshots of vectors, and encoders.
    snapshot_cache_entries: int = 8
    encoder_cache_entries: int = 4
    # Text queries and labels with their vectors (2 KB each), so that paging encodes once.
    query_cache_entries: int = 1024
    label_cache_entries: int = 4096
    # Lists of labels (400 KB each at most).
    label_list_cache_entries: int = 64
    # Groups of duplicates for a threshold, so that joins and paging cost nothing.
    duplicate_cache_entries: int = 16
    # Failures to load a tower, so that a damaged one is read once, not for every query.
    unusable_towers_remembered: int = 64

    # Indexes

    # Up to this many numbers (100,000 vectors of 512), a search compares all vectors, which takes
    # 10 ms and misses nothing. Beyond that, an index that looks at a part of them is faster.
    exact_numbers: int = 51_200_000
    # Without an index, all vectors are read into memory, for a moment twice: 8 GB for two million
    # of 512.
    max_unindexed_numbers: int = 1_100_000_000
    # Fewer vectors than this are not worth dividing into lists.
    index_at_least: int = 1000
    # The recall@10 that an index has to reach on a sample of queries.
    recall_wanted: float = 0.98
    # How many candidates per wanted picture an index may rank by their exact vectors.
    depths: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    # How many bytes larger an index file may be than its database accounts for: an index of a few
    # vectors has its own overhead.
    small_index_bytes: int = 10_000_000
    # An index is rebuilt when more of the collection than this has changed since; until then, the
    # changed pictures are compared beside it. Smaller collections are reindexed at every change.
    index_lag: float = 0.02
    index_lag_from: int = 20_000
    # A longer history of changes is not read, because reading all vectors takes less.
    max_changes_read: int = 1_000_000
    # Changes kept from before the newest index, for processes that still use an older one.
    changes_kept: int = 20_000
    # Temporary index files this old were left by runs that were killed.
    abandoned_after_seconds: float = 3600

    # Databases from strangers

    # A database's own number sizes memory, up to its square; OpenCLIP's models have 1,536 at most.
    max_dimension: int = 4096
    # The longest stored vector that counts as one of length 1. Other programs may store any length,
    # but products of longer vectors overflow float32.
    max_vector_length: float = 1e6
    # A database of ours has a few models, because its users choose among them.
    max_models: int = 1000
    max_name_characters: int = 1000
    # Paths and the settings of a model's preprocessing; Linux allows 4,096 for a path.
    max_path_characters: int = 10_000
    # A server has memory for only a few longer values.
    max_value_bytes: int = 100_000_000
    # The weights that a database names are read whole to be compared: OpenCLIP's largest file has
    # 20 GB.
    max_weights_bytes: int = 25_000_000_000
    # The largest tower that a database may make a server load; ONNX files can't exceed 2 GB.
    max_tower_bytes: int = 2_000_000_000
    # The operators and the work of a tower. Deep models have some 5,000 operators. The largest that
    # fit into the bytes above take 5e11 multiplications per picture, and no operator takes half.
    max_tower_tokens: int = 1024
    max_tower_nodes: int = 10_000
    max_tower_work: float = 1e12
    max_tower_node_work: float = 5e10
    max_tower_folding_work: float = 5e9
    # The memory of a tower besides its weights: 1,024 patches by 16 heads take half of it.
    max_tower_working_bytes: int = 400_000_000
    # How long a tower may load, and how long Python waits at exit for one that was asked to stop.
    tower_load_seconds: float = 60
    tower_end_seconds: float = 5

    # Embedding

    # OpenCLIP's open weights with the best zero-shot accuracy at the speed of a ViT-B-32.
    model: str = "ViT-B-32"
    pretrained: str = "datacomp_xl_s13b_b90k"
    # The name of the pictures' table in a new database.
    table: str = "images"
    # A 493 kB file can hold 169 megapixels and take 1.3 GB to decode.
    max_megapixels: float = 150
    # A decoder that takes longer hangs: 150 megapixels take 10 seconds on a slow machine. Reading
    # the file does not count.
    decode_seconds: float = 60
    # A run gives up a disk or network that delivers no byte for this long. Files that a cloud keeps
    # elsewhere arrive whole, after minutes.
    read_pause_seconds: float = 600
    # It also gives up one that only trickles: 1 GB at 300 KB/s.
    read_seconds: float = 3600
    # Many small pictures are sent to a decoder together: each turn costs the main process a third
    # of a millisecond, too much to keep sixteen cores busy.
    decoded_together: int = 16
    decoded_together_bytes: int = 1_000_000
    # Choosing the fastest number format costs as much as embedding some thirty pictures.
    precision_from: int = 64
    precision_sample: int = 8
    # Small batches keep every core busy with decoding and encoding at once; a GPU wants more.
    cpu_batch_size: int = 8
    gpu_batch_size: int = 64
    # A GPU computes one batch while the next one is prepared.
    gpu_batches_at_once: int = 2
    # The memory of decoded pictures that wait while the model loads: some two hundred, which a core
    # decodes in the time that a model loads. The thumbnail is a guess.
    waiting_bytes: int = 40_000_000
    thumbnail_bytes: int = 32_000
    # How many files are checked before a model is downloaded for them: perhaps none is a picture.
    files_looked_at_first: int = 16
    # The most pixels on the longer side of a thumbnail, and the fewest where the picture has more.
    # On a sharp screen, one of 250 looks slightly enlarged.
    thumbnail_size: int = 400
    thumbnail_least: int = 250
    thumbnail_quality: int = 75
    # How often --watch looks at files for which the system reports no changes.
    poll_seconds: float = 30

    # Writing

    # Older releases of SQLite lack `returning`.
    sqlite_at_least: tuple[int, ...] = (3, 35, 0)
    # SQLite's page size for a new database: vectors of 2 to 5 KB waste at most an eighth of a
    # page of 32 KB, but half of the usual 4 KB.
    page_size: int = 32768
    # How long a run waits for another program's lock: briefly while it has nothing to lose,
    # patiently later.
    first_write_wait_seconds: float = 5
    write_wait_seconds: float = 60
    # The work that a power cut may cost, and the pictures, 160 KB each, that wait to be written.
    commit_seconds: float = 5
    commit_pictures: int = 1000
    # Deleting many rows pauses after each part, so that other programs get in: SQLite retries ten
    # times a second.
    rows_at_once: int = 100
    part_seconds: float = 0.5
    pause_seconds: float = 0.12

    # Publishing

    # The page size of a published database, which is hardly written to: its thumbnails, too, waste
    # little of 64 KB (a whole file of them with vectors: 7 to 17%, and 16 to 39% of 32 KB).
    published_page_size: int = 65536
    # The most bytes read of an original to make a thumbnail, and of a thumbnail in a database: ours
    # have some 30 KB, but anyone may have made the database.
    max_original_bytes: int = 1_000_000_000
    max_thumbnail_bytes: int = 1_000_000
    # The longest address of an original; browsers and servers accept as much.
    max_url_characters: int = 2_000
    # The time that Datasette gives SQL in public; the first search also loads the vectors.
    published_sql_time_limit_ms: int = 2_000
    # The most rows of an answer, and the time for each of its facets, on a public server.
    published_max_returned_rows: int = 1_000
    published_facet_time_limit_ms: int = 200

    # The search page

    # The results on a page.
    results_per_page: int = 24
    max_results_per_page: int = 100
    # The pictures that the page shows before a search.
    newest_pictures: int = 12
    # Searches at a time for each database: more would only wait for the same cores. With threads of
    # its own, no database waits for another.
    search_threads: int = 2
    search_niceness: int = 10
    # The time for one search that has to read its vectors first, and for loading after the start:
    # ten million vectors without an index take a minute on a good disk.
    search_seconds: float = 300
    load_seconds: float = 600
    # How long the menus and cells of Datasette's own pages wait for the plugin, and for how long
    # they then skip a database that took longer.
    hook_seconds: float = 0.5
    hook_pause_seconds: float = 60
    # Datasette loads models this long after its start, so not in commands that end sooner.
    load_after_seconds: float = 1


CONFIG = Config()
