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
                overwrite_keeps_created_at [Get Put Preconditions],
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
                version_changes_on_every_write [Get Put Preconditions],
                if_version_ok [Get Put Preconditions],
                if_version_stale_conflicts [Get Put Preconditions],
                if_version_malformed_invalid [Get Put Preconditions],
                delete_if_version_stale_conflicts [Get Put Preconditions],
                if_absent_first_wins [Get Put Preconditions],
                failed_precondition_changes_nothing [Get Put Preconditions],
                version_survives_text_roundtrip [Get Put Preconditions],
                recreate_never_reuses_a_version [Put Preconditions],
            }
            expiry {
                ttl_expires [Get Put Expiry],
                ttl_zero_and_negative_rejected [Get Put Expiry],
                ttl_millisecond_precision [Get Put Expiry],
                expiry_is_readable [Get Put Expiry],
                put_without_ttl_clears_it [Get Put Expiry],
                touch_extends [Get Put Expiry],
                touch_clears [Get Put Expiry],
                touch_missing_fails [Get Put Expiry],
                expired_hidden_in_get [Get Put Expiry],
                expired_hidden_in_scan_query_count [Get Put Expiry Scan],
                expired_counts_as_absent_for_preconditions [Get Put Expiry Preconditions],
                sweep_removes_and_reports [Get Put Expiry Sweep],
                batch_expiries [Get Put Expiry],
            }
            batches {
                get_many_keeps_order_and_gaps [Get Put],
                get_duplicate_keys [Get Put],
                empty_batch_is_noop [Get Put],
                write_results_in_order [Get Put],
                independent_failure_isolated [Get Put Preconditions],
                same_key_in_order [Get Put],
                over_limit_is_split_or_rejected_clearly [Get Put],
                atomic_all_or_nothing [Get Put Atomic],
                atomic_precondition_aborts_all [Get Put Preconditions Atomic],
                atomic_over_limit_is_refused_whole [Get Put Atomic],
                atomic_across_collections [Get Put Preconditions Atomic],
                atomic_same_key_twice [Get Put Preconditions Atomic],
                readers_never_see_half_a_batch [Get Put Atomic],
            }
            transactions {
                commit_applies_all [Get Put Preconditions Atomic],
                rollback_applies_none [Get Put Preconditions Atomic],
                read_your_writes [Get Put Preconditions Atomic],
                conflict_detected [Get Put Preconditions Atomic],
                conflict_retried_until_done [Get Put Preconditions Atomic],
                delete_then_put [Get Put Preconditions Atomic],
                transfer_conserves_the_sum [Get Put Preconditions Atomic],
                finished_twice_errors [Get Put Preconditions Atomic],
            }
            scan {
                empty_collection [Put Scan],
                prefix_only [Put Scan],
                scan_agrees_with_get [Get Put Scan],
                ordered_by_key_bytes [Put Scan OrderedScan],
                page_sizes_1_2_n [Put Scan],
                every_stable_record_exactly_once_under_writes [Put Scan],
                more_than_10_000 [Put Scan],
                wildcards_are_literal [Put Scan],
                cursor_invalid_rejected [Put Scan],
                cursor_of_another_scan_rejected [Put Scan],
                cursor_survives_reconnect [Put Scan],
                unicode_prefix [Put Scan],
                collections_do_not_leak [Put Scan],
                keys_agree_with_scan [Put Scan],
            }
            query {
                eq_ne [Put Query],
                range_numbers [Put Query],
                range_strings [Put Query],
                int_and_float_compare [Put Query],
                in_nin [Put Query],
                exists [Put Query],
                prefix [Put Query],
                contains [Put Query],
                and_or_not_nested [Put Query],
                nested_paths [Put Query],
                array_elements [Put Query],
                leading_zeros_make_no_position [Put Query],
                null_vs_missing [Put Query],
                mixed_types_do_not_error [Put Query],
                sort_asc_desc [Put Query Sort],
                sort_ties_stable_over_pages [Put Query Sort],
                limit_edges [Put Query],
                paging_exactly_once [Put Query],
                injection_text_is_literal [Put Query],
                indexed_and_unindexed_agree [Put Query Indexes],
                unicode_compare_by_code_point [Put Query],
                count_agrees_with_query [Put Query Count],
                index_lifecycle [Put Indexes],
                unique_index_conflicts [Get Put Indexes UniqueIndexes],
                unique_values_pass_in_order [Put Preconditions Indexes UniqueIndexes],
                agrees_with_the_reference [Put Query],
            }
            counters {
                starts_at_zero [Get Put Counters],
                increment_returns_new [Get Put Counters],
                negative_delta [Get Put Counters],
                several_fields [Get Put Counters],
                concurrent_sum_exact [Get Put Counters],
                overflow_is_an_error [Get Put Counters],
                on_json_value_is_type_error [Get Put Counters],
                ttl_on_counters [Get Put Counters Expiry],
            }
            lists {
                append_creates [Get Put Lists],
                order_kept [Get Put Lists],
                range_start_count [Get Put Lists],
                range_past_end [Get Put Lists],
                concurrent_append_no_loss [Get Put Lists],
                large_list_pages [Get Put Lists],
                clear_list [Get Put Lists],
                on_json_value_is_type_error [Get Put Lists],
            }
            concurrency {
                if_version_one_winner [Get Put Preconditions],
                same_key_whole_values [Get Put],
                parallel_distinct_keys [Get Put],
                schema_created_once_by_many [Get Put],
                dropped_future_leaves_no_half_write [Get Put],
            }
            text {
                unicode_keys_and_values [Get Put],
                key_length_edges [Get Put],
                value_size_edges [Get Put],
                nul_in_json_strings [Get Put],
                control_characters [Get Put],
                sql_and_shell_metacharacters [Get Put],
            }
            errors_and_life {
                bad_endpoint_fails_fast [],
                reopened_store_is_as_it_was [Get Put],
                closed_store_errors [Get Put],
                double_close_ok [Get Put],
                unclaimed_capability_unsupported [],
                debug_and_errors_hide_secrets [Get Put Scan],
                health_of_a_working_store_is_up [Put],
                stats_count_what_was_done [Get Put],
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
                wrong_password_kind [],
                reconnect_after_server_restart [Get Put],
                cut_connection_never_hangs [Get Put],
                cut_increments_count_once [Get Counters],
                health_turns_with_the_server [Get Put],
                timeout_kind [Get Put],
            }
        }
    };
}
