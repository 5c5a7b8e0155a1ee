"""Every default and limit, once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """Defaults and limits; each comment says what the value protects or buys."""

    # What clip_search() returns when k is not given: a screenful.
    default_k: int = 10
    # What --minus weighs: at a whole weight the results are chosen by what they lack more than by
    # what was asked for.
    minus_weight: float = 0.5
    # A larger k is an error, so that a slip of the keyboard can't fill the memory of a server.
    max_k: int = 1_000_000
    # The ids to search within are JSON from anyone who can run SQL. A million of seven digits, each
    # with a comma and a space, take 9 MB and a third of a second, once for a statement.
    max_within_ids: int = 1_000_000
    max_within_characters: int = 10_000_000
    # CLIP reads 77 tokens, about 300 characters; more than this is a mistake or an attack.
    max_query_characters: int = 2_000
    # Query images come from anyone who can run SQL: small enough to decode without harm.
    max_query_image_bytes: int = 10_000_000
    max_query_image_megapixels: float = 50
    # Only JPEGs can be decoded at a reduced scale; others must be small to begin with.
    max_query_image_decoded_megapixels: float = 6
    # What it may cost a server's decoders: files of 300 KB can be made that take a minute.
    query_decode_seconds: float = 2
    # A model's vectors: those of OpenCLIP's models have 1,536 numbers at most. What a database says
    # here sizes memory, up to the square of it.
    max_dimension: int = 4096
    # How long a stored vector may be that counts as one of length 1: other programs may have left
    # it as it was, but products of longer ones run out of float32.
    max_vector_length: float = 1e6
    # And the one for ordinary pictures, which take a tenth of it. The slower ones have another.
    quick_decode_seconds: float = 0.5
    # So much of the slower ones waits at most: in seconds that they may take, and in bytes.
    max_slow_seconds_waiting: float = 20
    max_slow_bytes_waiting: int = 20_000_000
    # One that was ended at the limit is refused at once for so long.
    slow_pictures_refused_seconds: float = 60
    # What one clip_mix() can hold; each query of it may be a picture to decode.
    max_mix_terms: int = 16
    # Pictures that tell where a collection lies in its model's space: 5,000 take less than half a
    # second, once.
    distribution_sample: int = 5_000
    # Text queries remembered with their vectors (2 KB each), so that paging encodes once.
    query_cache_entries: int = 1024
    # What clip_tags() encodes comes from anyone who can run SQL, several prompts for each label.
    max_labels: int = 100
    max_label_characters: int = 100
    # JSON may write a character as twelve, and put spaces between labels.
    max_labels_characters: int = 120_000
    # Labels remembered with their vectors (2 KB each), and lists of labels (at most 400 KB each).
    label_cache_entries: int = 4096
    label_list_cache_entries: int = 64
    # Up to so many numbers (100,000 vectors of 512) all vectors are looked at in full, which takes
    # 10 ms and misses nothing; beyond that an index that looks at a part of them is faster.
    exact_numbers: int = 51_200_000
    # Without an index all vectors are read into memory, and there are two copies of them for a
    # moment: 8 GB for two million of 512.
    max_unindexed_numbers: int = 1_100_000_000
    # Fewer vectors than this can't be divided into lists that are worth it.
    index_at_least: int = 1000
    training_vectors_per_list: int = 64
    # What is to be found of the ten truly nearest pictures, by a sample of so many queries, half of
    # them pictures and half as far from all pictures as words are.
    recall_wanted: float = 0.98
    recall_queries: int = 512
    # And so much more of the sample that an index is built with: others tell half a percent less.
    recall_margin: float = 0.005
    recall_likeness: float = 0.3
    # How many candidates for each picture wanted may be ranked by their exact vectors.
    depths: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    # What it costs to look at a rounded vector, and to fetch an exact one.
    seconds_per_code: float = 60e-9
    seconds_per_vector: float = 15e-6
    # Searching within fewer pictures than this fetches all of their vectors.
    fetched_within: int = 2000
    # An index file may have so many bytes more than its database accounts for: one of a few vectors
    # has its own overhead.
    small_index_bytes: int = 10_000_000
    # An index is built anew when more of the collection has changed since; below that, what has
    # changed is scored beside it. Small ones are built anew at once.
    index_lag: float = 0.02
    index_lag_from: int = 20_000
    # A history that is longer is not read: the vectors are, which takes less.
    max_changes_read: int = 1_000_000
    # Changes remembered from before the newest index, for processes that still use an older one.
    changes_kept: int = 20_000
    # Pictures that hits are measured against: as many cosines tell their spread to 2% in 0.1 ms.
    crowd_size: int = 1000
    # Fewer pictures, or cosines that differ by no more than float32's rounding, are no measure.
    crowd_at_least: int = 10
    crowd_deviation_at_least: float = 1e-5
    # What a stranger's database may hold where ours has a few rows: a model is chosen by a person.
    max_models: int = 1000
    max_name_characters: int = 1000
    # Paths and the settings of a model's preprocessing; Linux allows 4,096 for a path.
    max_path_characters: int = 10_000
    # Loaded collections and encoders kept in memory at a time.
    snapshot_cache_entries: int = 8
    encoder_cache_entries: int = 4
    # A damaged text tower is read once, not for every query.
    unusable_towers_remembered: int = 64
    # What clip_duplicates() takes for near-identical: a smaller or re-encoded copy, a slight crop.
    # A false duplicate may cost a picture, a missed one only space.
    duplicate_threshold: float = 0.95
    # Below this, pictures are of one kind at most, and pairs are too many to find fast.
    least_duplicate_threshold: float = 0.7
    # 16 bytes each in memory; 2,000 pictures that are all alike have so many.
    max_duplicate_pairs: int = 2_000_000
    # Vectors read into memory to compare them, where the index does not hold them: 2 GB of them and
    # as much beside them at home, a tenth of that where anyone may ask.
    max_duplicate_numbers: int = 550_000_000
    max_published_duplicate_numbers: int = 55_000_000
    # Groups remembered for a threshold, so that joins and paging cost nothing.
    duplicate_cache_entries: int = 16

    # OpenCLIP's open weights with the best zero-shot accuracy for the speed of a ViT-B-32.
    model: str = "ViT-B-32"
    pretrained: str = "datacomp_xl_s13b_b90k"
    table: str = "images"
    # A 493 kB file can hold 169 megapixels and take 1.3 GB to decode.
    max_megapixels: float = 150
    # A decoder that takes longer hangs: 150 megapixels take 10 seconds on a slow machine. Reading
    # the file does not count.
    decode_seconds: float = 60
    # A disk or network that delivers no byte for so long is given up, for this run. Files that a
    # cloud keeps elsewhere arrive whole, after minutes.
    read_pause_seconds: float = 600
    # And one that only trickles: 1 GB at 300 KB/s.
    read_seconds: float = 3600
    # So many small pictures are given to a decoder at a time, where many wait: each turn costs the
    # main process a third of a millisecond, which has too few of them for sixteen cores.
    decoded_together: int = 16
    decoded_together_bytes: int = 1_000_000
    # Choosing the fastest number format costs as much as embedding some thirty pictures.
    precision_from: int = 64
    precision_sample: int = 8
    # Int8 is calibrated with a third of a sample and checked with the rest of it.
    int8_sample: int = 144
    int8_sample_at_least: int = 30
    # A text tower must find the same pictures as torch: in so many of the collection at most, and
    # where ten are so few of them that chance would not find them.
    text_tower_pictures: int = 5_000
    text_tower_pictures_at_least: int = 100
    # Pictures that an image tower is checked with; torch embeds them once more, in float32.
    image_tower_sample: int = 32
    # Rows of towers: Datasette reads a hundred for a page.
    tower_part_bytes: int = 262_144
    # A file that a database names as its weights is read whole to be compared: the largest of
    # OpenCLIP's has 20 GB.
    max_weights_bytes: int = 25_000_000_000
    # What a database may have a server load; ONNX files end at 2 GB.
    max_tower_bytes: int = 2_000_000_000
    # Towers come from strangers' databases. Deep models have some 5,000 operators, the largest that
    # fit into the bytes above take 5e11 multiplications for a picture, none of which is half of it.
    max_tower_tokens: int = 1024
    max_tower_nodes: int = 10_000
    max_tower_work: float = 1e12
    max_tower_node_work: float = 5e10
    max_tower_folding_work: float = 5e9
    # What runs without a look at the time limit: a tenth of a second.
    uninterrupted_work: float = 4e9
    # After that, a tower that is being loaded is given up.
    tower_load_seconds: float = 60
    # And so long Python's end waits for one, which was told to stop.
    tower_end_seconds: float = 5
    # What a tower takes besides its weights: 1,024 patches by 16 heads take half of it.
    max_tower_working_bytes: int = 400_000_000
    # Small batches keep every core busy with decoding and encoding at once; a GPU wants more.
    cpu_batch_size: int = 8
    gpu_batch_size: int = 64
    # How often --watch looks at files that the system does not tell changes of.
    poll_seconds: float = 30
    # One is prepared while another is computed.
    gpu_batches_at_once: int = 2
    # Pictures that are decoded while the model loads, or ahead of it later, and so wait in memory:
    # some two hundred, which takes a core no longer than to load a model. The thumbnail is a guess.
    waiting_bytes: int = 40_000_000
    thumbnail_bytes: int = 32_000
    # Where many rows are deleted, so many at a time, a transaction ends after so long, and others
    # have so long to get in before the next one: SQLite looks every tenth of a second.
    rows_at_once: int = 100
    part_seconds: float = 0.5
    pause_seconds: float = 0.12
    # Before, there is no `returning`.
    sqlite_at_least: tuple[int, ...] = (3, 35, 0)
    # How long a run waits for another program to let go of the database: briefly before there is
    # anything to lose, patiently later.
    first_write_wait_seconds: float = 5
    write_wait_seconds: float = 60
    # Temporary index files this old were left by runs that were killed.
    abandoned_after_seconds: float = 3600
    # Whether so few files are pictures at all is seen before a model is fetched for them.
    files_looked_at_first: int = 16
    # Work that a power cut may cost, and pictures that wait in memory, 160 KB each, to be written.
    commit_seconds: float = 5
    commit_pictures: int = 1000
    # The longer side of a thumbnail in pixels, at most, and at least where the picture has more: at
    # 250, one shows on a sharp screen that it is enlarged, if one looks for it.
    thumbnail_size: int = 400
    thumbnail_least: int = 250
    thumbnail_quality: int = 75
    # Pictures that the nearest ones are compared of where vectors are rounded for publishing: they
    # tell the recall to half a percent, in a second or two for each 100,000 pictures.
    recall_sample: int = 200
    # What is read of a file to make a thumbnail of it, and of a thumbnail in a database: ours have
    # some 30 KB, but anyone may have made the database.
    max_original_bytes: int = 1_000_000_000
    max_thumbnail_bytes: int = 1_000_000
    # What an address of an original may have; browsers and servers take as much.
    max_url_characters: int = 2_000
    # What Datasette's SQL is given where it is published: the first search also loads the vectors.
    published_sql_time_limit_ms: int = 2_000
    # What one answer, and one facet of it, may cost where anyone may ask.
    published_max_returned_rows: int = 1_000
    published_facet_time_limit_ms: int = 200
    # SQLite's page size for a new database: vectors of 2 to 5 KB waste at most an eighth of a
    # page of 32 KB, but half of the usual 4 KB.
    page_size: int = 32768
    # The same for a published one, which is hardly written to: its thumbnails, too, waste little
    # of 64 KB (a whole file of them with vectors: 7 to 17%, and 16 to 39% of pages of 32 KB).
    published_page_size: int = 65536

    # Results on one page of the search page.
    results_per_page: int = 24
    max_results_per_page: int = 100
    # Pictures that the search page shows before anything is searched for.
    newest_pictures: int = 12
    # Searches of the search page at a time, for each database: more only wait for the same cores,
    # and with threads of its own none waits for another's.
    search_threads: int = 2
    search_niceness: int = 10
    # Pictures that visitors send, of all of them together in memory, and how long one may take.
    max_uploads_bytes: int = 50_000_000
    upload_seconds: float = 60
    # A small one counts as so many, because it takes its time to be decoded and encoded: 200 wait.
    least_upload_bytes: int = 250_000
    # What one search may take where its vectors have to be read first, and what the loading after
    # the start may: ten million vectors without an index take a minute on a good disk.
    search_seconds: float = 300
    load_seconds: float = 600
    # What the menus and cells of Datasette's own pages wait for us, and how long a database that
    # took longer is then left in peace.
    hook_seconds: float = 0.5
    hook_pause_seconds: float = 60
    # A value of a stranger's database that is no longer fits a server's memory many times over.
    max_value_bytes: int = 100_000_000
    # Datasette starts to load models this long after its start, not in commands that end sooner.
    load_after_seconds: float = 1


CONFIG = Config()
