//! The one list of cases: group, name, and the features each needs. Tests and [`cases`](crate::cases) are
//! made from it.

/// Calls a macro of this crate with some arguments and every case that needs no server.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_case {
    ($callback:ident $arguments:tt) => {
        $crate::$callback! { $arguments
            crud {
                get_missing_none [Get],
                put_get_roundtrip [Get Put],
                put_overwrites [Get Put],
                overwrite_keeps_created_at [Get Put],
                create_existing_fails [Get Put Preconditions],
                replace_missing_fails [Get Put Preconditions],
                delete_existing [Get Put],
                delete_missing_is_quiet [Get Put],
                exists_tracks_state [Get Put Preconditions],
                falsy_values_roundtrip [Get Put],
                json_types_roundtrip [Get Put],
                bytes_roundtrip_all_256 [Get Put Bytes],
                json_number_extremes [Get Put],
                deep_json [Get Put],
                value_kinds_do_not_mix [Get Put Bytes],
                clear_removes_only_its_collection [Get Put Clear],
                collections_are_listed [Put Collections],
            }
            versions {
                version_changes_on_every_write [Get Put],
                if_version_ok [Get Put Preconditions],
                if_version_stale_conflicts [Get Put Preconditions],
                if_version_malformed_invalid [Get Put Preconditions],
                delete_if_version_stale_conflicts [Get Put Preconditions],
                if_absent_first_wins [Get Put Preconditions],
                failed_precondition_changes_nothing [Get Put Preconditions],
                version_survives_text_roundtrip [Get Put Preconditions],
                recreate_never_reuses_a_version [Put],
            }
        }
    };
}

/// Calls a macro of this crate with some arguments and every case that needs a server.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_server_case {
    ($callback:ident $arguments:tt) => {
        $crate::$callback! { $arguments
            server {
            }
        }
    };
}
