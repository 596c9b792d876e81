"""What is measured, a file each: `measure(bench)` starts what it needs, and gives rows for the table and figures."""
