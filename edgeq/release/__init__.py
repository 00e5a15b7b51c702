"""The release: gate, statistics, report, lock file and bundle."""
