//! The in-memory backend as a plugin that answers on the host's threads: `inline` is for backends that never wait.

storage_plugin::export_plugin!(storage_core::MEMORY, name = "memory", version = "1.0.0", inline);
