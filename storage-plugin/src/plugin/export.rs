//! The macros that make a crate a plugin.

/// Registers a storage type with the program that the crate is linked into, and makes the crate a plugin when it is
/// built with `--cfg storage_plugin`.
///
/// The one line of a backend crate. Name and version are those of the descriptor, a `static`; they stand here as
/// literals because the plugin's note holds them, and a unit test that the macro adds compares them. With `inline`, see
/// [`export_plugin!`](crate::export_plugin).
///
/// ```
/// use storage_core::MEMORY; // Here, the backend crate's own type.
///
/// storage_plugin::export_backend!(MEMORY, name = "memory", version = "1.0.0", inline);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_backend {
    ($descriptor:path, name = $name:literal, version = $version:literal $(, $mode:ident)? $(,)?) => {
        $crate::plugin::storage_core::register_type!($descriptor);

        #[cfg(storage_plugin)]
        $crate::export_plugin!($descriptor, name = $name, version = $version $(, $mode)?);

        #[cfg(test)]
        #[test]
        fn plugin_is_called_as_the_descriptor_says() {
            let descriptor: &dyn $crate::plugin::storage_core::TypeDescriptor = &$descriptor;
            assert_eq!((descriptor.name(), descriptor.version().to_string().as_str()), ($name, $version));
        }
    };
}

/// Makes a crate of type `cdylib` a plugin: emits the entry symbol `storage_plugin_entry` and the ELF note.
///
/// Once in a library, and in no two crates that are linked into one program. The descriptor is a `static` whose name
/// and version are those given here; a plugin of which that is not so refuses to start.
///
/// Calls run on the plugin's own threads. With `inline` each is first polled on the host's thread, and goes to the
/// plugin's threads only if it has to wait: a tenth of the cost for a backend in memory, and to be had only by a
/// backend that never blocks its thread, as the host's timers and tasks wait meanwhile.
///
/// ```
/// use storage_core::MEMORY;
///
/// storage_plugin::export_plugin!(MEMORY, name = "memory", version = "1.0.0");
/// # fn main() {}
/// ```
///
/// A name that no type may have does not compile:
///
/// ```compile_fail
/// storage_plugin::export_plugin!(storage_core::MEMORY, name = "My Memory", version = "1.0.0");
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_plugin {
    ($descriptor:path, name = $name:literal, version = $version:literal $(,)?) => {
        $crate::export_plugin!(@ $descriptor, $name, $version, false);
    };
    ($descriptor:path, name = $name:literal, version = $version:literal, inline $(,)?) => {
        $crate::export_plugin!(@ $descriptor, $name, $version, true);
    };
    (@ $descriptor:path, $name:literal, $version:literal, $inline:literal) => {
        const _: () = {
            #[cfg(panic = "abort")]
            compile_error!(
                "a storage plugin is built with panic = \"unwind\": else a panic of the plugin would end the host"
            );

            static EXPORT: $crate::plugin::Export = $crate::plugin::Export::new(
                &$descriptor,
                concat!($name, "\0"),
                concat!($version, "\0"),
                concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\0"),
                $inline,
            );

            const NOTE: &str = concat!(
                "name=",
                $name,
                "\nversion=",
                $version,
                "\nbuild=",
                env!("CARGO_PKG_NAME"),
                " ",
                env!("CARGO_PKG_VERSION"),
                "\n"
            );

            #[cfg(target_os = "linux")]
            #[used]
            #[unsafe(link_section = ".note.storage_plugin")]
            static ELF_NOTE: $crate::plugin::Note<{ NOTE.len() }> = $crate::plugin::Note::new(NOTE);

            #[unsafe(no_mangle)]
            extern "C" fn storage_plugin_entry() -> *const $crate::abi::Descriptor {
                EXPORT.enter()
            }
        };
    };
}
