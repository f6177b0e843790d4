"""Hot paths of skerry: ordinary Python, compiled by Cython where a compiler was at hand."""
