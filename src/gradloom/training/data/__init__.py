"""Data: a `DataLoader` with PyTorch's options that resumes in mid-epoch, datasets, splits, and other libraries' loaders as they are.

```python
loader = DataLoader((images, labels), batch_size=64, shuffle=True)
for inputs, targets in loader:
    ...
```
"""

from .adapt import adapt, batches_of, to_engine, to_tensors, unpack
from .collate import default_collate
from .datasets import ConcatDataset, Subset, TensorDataset
from .loader import DataLoader
from .splits import k_fold, random_split, stratified_k_fold, stratified_split

__all__ = [
    "ConcatDataset", "DataLoader", "Subset", "TensorDataset", "adapt", "batches_of", "default_collate", "k_fold",
    "random_split", "stratified_k_fold", "stratified_split", "to_engine", "to_tensors", "unpack",
]  # fmt: skip
