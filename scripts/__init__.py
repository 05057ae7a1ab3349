"""Tools of the checkout; none of them is in the installed package. Run one as `python -m scripts.NAME`."""
