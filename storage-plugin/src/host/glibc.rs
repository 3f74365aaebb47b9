//! The C library of this process.

/// The version of the glibc that this process runs with, such as `(2, 36)`; none with another C library.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "asks the C library for its version")]
pub fn glibc_version() -> Option<(u32, u32)> {
    // SAFETY: the function takes nothing and has no precondition; it is there because this is compiled against glibc.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: glibc returns a pointer to a constant string that ends with NUL.
    let version = unsafe { std::ffi::CStr::from_ptr(version) };
    let (major, rest) = version.to_str().ok()?.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The version of the glibc that this process runs with; none, because this is another C library.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn glibc_version() -> Option<(u32, u32)> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn the_version_is_known() {
        assert!(super::glibc_version().is_some_and(|version| version >= (2, 17)));
    }
}
