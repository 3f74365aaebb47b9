//! The backends of the enabled cargo features.

use std::hint::black_box;

use storage_core::TypeDescriptor;

/// Refers to the descriptor of each enabled crate, so that no linker drops the crate and with it the
/// registration.
pub(crate) fn keep() {
    let descriptors: &[&dyn TypeDescriptor] = &[
        &storage_core::MEMORY,
        #[cfg(feature = "file")]
        &storage_file::FILE,
        #[cfg(feature = "mongo")]
        &storage_mongo::MONGO,
        #[cfg(feature = "postgres")]
        &storage_postgres::POSTGRES,
        #[cfg(feature = "redis")]
        &storage_redis::REDIS,
    ];
    black_box(descriptors);
}
