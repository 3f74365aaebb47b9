#!/usr/bin/env bash
# The main job from end to end: imports real records into the embedded store, reads, queries, updates and
# exports them. The store is $STORAGE_URL, or ./storage-data, where it stays for trying out more.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet --package storage-cli
PATH="${CARGO_TARGET_DIR:-$PWD/target}/debug:$PATH"

# Prints a command as one would type it, and runs it.
show() {
    local word line='$ storage'
    for word in "$@"; do
        if [[ $word =~ ^[A-Za-z0-9_./:=-]+$ ]]; then line+=" $word"; else line+=" '$word'"; fi
    done
    printf '\n%s\n' "$line"
    storage "$@"
}

show types
show import countries examples/data/countries.ndjson --key code
show get countries NZ
show index add countries region
show query countries --filter '{"region": "Europe", "population.count": {"$gte": 60000000}}' --sort population.count:desc
show query countries --filter '{"borders": "CH"}' --count
show put countries NZ '{"code":"NZ","name":"Aotearoa New Zealand","capital":"Wellington","region":"Oceania"}'
show get countries NZ --meta
show incr visits home views
show append notes today '{"text":"a first note"}'
show count countries
show verify

printf '\n$ storage export countries | head -n 2\n'
exported="$(storage export countries)"
head -n 2 <<< "$exported"
printf '… %s records\n' "$(wc -l <<< "$exported")"
