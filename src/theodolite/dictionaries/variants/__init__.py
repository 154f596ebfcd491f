"""One dictionary variant per file; each file's public class is found by walking this folder."""
