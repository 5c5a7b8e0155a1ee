"""Search pictures by meaning in SQLite and Datasette, with OpenCLIP and FAISS."""
