"""`weakseg experiment`: the commands of single tables and figures of the papers."""
