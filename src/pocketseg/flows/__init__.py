"""One verb each: load, build, do, measure, save. The story of every command, read in one sitting."""
