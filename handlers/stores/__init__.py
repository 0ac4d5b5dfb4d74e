"""What the functions keep: one file per group of tables, SQL in no other place. Migrations are numbered SQL files."""
