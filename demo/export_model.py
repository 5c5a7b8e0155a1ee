"""Make demo/model/towers.db: the model's towers, for installs without PyTorch.

    python demo/export_model.py

The file is a database that embed-images wrote, without the pictures.
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from datasette_clip_search.embedding import EmbedOptions, embed_images

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Embed the demo's pictures, which checks the towers, and keep the towers."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "demo.db")
        options = EmbedOptions(
            model="demo", pretrained=str(HERE / "model"), precision="fp32", image_tower="auto"
        )
        summary = embed_images(database, [HERE / "pictures"], options)
        print(summary.text_tower)
        print(summary.image_tower)
        towers = Path(folder, "towers.db")
        with closing(sqlite3.connect(database)) as connection:
            with connection:
                for table in ("images", "clip_embeddings", "clip_thumbnails", "clip_failures"):
                    connection.execute(f"delete from {table}")
                # Each database records the place of the weights for itself.
                connection.execute("update clip_models set pretrained = ''")
            connection.execute("vacuum into ?", [str(towers)])
        file = HERE / "model" / "towers.db"
        file.write_bytes(towers.read_bytes())
        print(f"{file.stat().st_size} bytes in {file}")


if __name__ == "__main__":
    main()
