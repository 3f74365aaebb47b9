//! The ELF note.
