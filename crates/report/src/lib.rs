//! Reads events: live view, table, result.json, JUnit, Markdown.
