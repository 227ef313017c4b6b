"""The measures of docs/performance.md: what VC Stack costs beside what it is built on, from one run."""
