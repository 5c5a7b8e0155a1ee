"""What is searched for and in what, and what models see."""

import numpy as np
from numpy.typing import NDArray

# Ids of pictures, or positions in an index.
Ids = NDArray[np.int64]
# Unit vectors, one (d,) or many (n, d).
Vectors = NDArray[np.float32]
Chosen = NDArray[np.bool_]
# What models see of pictures, (height, width, 3) of one or (n, height, width, 3) of many.
Pixels = NDArray[np.uint8]
