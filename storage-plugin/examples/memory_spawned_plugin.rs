//! The in-memory backend as a plugin that answers on threads of its own, as a backend does that waits.

storage_plugin::export_plugin!(storage_core::MEMORY, name = "memory", version = "1.0.0");
