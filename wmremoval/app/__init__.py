"""The local web page: upload photographs, look at the results, correct the masks, download."""
