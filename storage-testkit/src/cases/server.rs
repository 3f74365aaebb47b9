//! Cases that stop, freeze and cut the server behind the store.
