//! What the suites share. Each suite is a folder beside this one; see docs/architecture.md.
