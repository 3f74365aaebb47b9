//! What the host refers to by numbers: stores and pending calls.

use std::array;
use std::cell::Cell;
use std::mem;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Threads seldom meet at one of so many locks.
const SHARDS: usize = 8;

/// Values under numbers that are good once: one that was removed, or that was never given out, stands for nothing.
pub(super) struct Table<T> {
    shards: [Aligned<T>; SHARDS],
}

/// Shards do not share a cache line.
#[repr(align(64))]
struct Aligned<T>(RwLock<Shard<T>>);

struct Shard<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    is_closed: bool,
}

struct Slot<T> {
    /// Not 0, so that no number is.
    generation: u32,
    value: Option<T>,
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        let shard = || Shard { slots: Vec::new(), free: Vec::new(), is_closed: false };
        Self { shards: array::from_fn(|_| Aligned(RwLock::new(shard()))) }
    }

    /// Keeps a value and returns its number, which is not 0; gives the value back if the table is closed.
    pub(super) fn insert(&self, value: T) -> Result<u64, T> {
        let own = own_shard();
        let mut shard = self.write(own);
        if shard.is_closed {
            return Err(value);
        }
        let index = shard.free.pop().unwrap_or(shard.slots.len());
        // A table so large does not fit into memory.
        let Ok(place) = u32::try_from(index * SHARDS + own) else { return Err(value) };
        if index == shard.slots.len() {
            shard.slots.push(Slot { generation: 1, value: None });
        }
        let slot = &mut shard.slots[index];
        slot.value = Some(value);
        Ok(u64::from(slot.generation) << 32 | u64::from(place))
    }

    /// The value of a number.
    pub(super) fn get(&self, number: u64) -> Option<T>
    where
        T: Clone,
    {
        let (generation, index, shard) = parts(number);
        let shard = self.read(shard);
        let slot = shard.slots.get(index).filter(|slot| slot.generation == generation)?;
        slot.value.clone()
    }

    /// Removes the value of a number.
    pub(super) fn remove(&self, number: u64) -> Option<T> {
        let (generation, index, shard) = parts(number);
        let mut shard = self.write(shard);
        let slot = shard.slots.get_mut(index).filter(|slot| slot.generation == generation)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.checked_add(1).unwrap_or(1);
        shard.free.push(index);
        Some(value)
    }

    /// Removes all values, and takes no more.
    pub(super) fn close(&self) -> Vec<T> {
        let mut values = Vec::new();
        for shard in 0..SHARDS {
            let mut shard = self.write(shard);
            shard.is_closed = true;
            shard.free = Vec::new();
            values.extend(mem::take(&mut shard.slots).into_iter().filter_map(|slot| slot.value));
        }
        values
    }

    // No foreign code runs under these locks, so that a panic cannot leave a shard half changed.

    fn read(&self, shard: usize) -> RwLockReadGuard<'_, Shard<T>> {
        self.shards[shard].0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, shard: usize) -> RwLockWriteGuard<'_, Shard<T>> {
        self.shards[shard].0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Generation, index and shard of a number.
fn parts(number: u64) -> (u32, usize, usize) {
    let place = number as u32 as usize;
    ((number >> 32) as u32, place / SHARDS, place % SHARDS)
}

/// The shard that this thread inserts into.
fn own_shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
    }
    SHARD.with(|shard| {
        let own = shard.get().unwrap_or_else(|| THREADS.fetch_add(1, Relaxed) % SHARDS);
        shard.set(Some(own));
        own
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_number_is_good_once() {
        let table = Table::new();
        let (a, b) = (table.insert('a').unwrap(), table.insert('b').unwrap());
        assert_eq!((table.get(a), table.get(b)), (Some('a'), Some('b')));
        assert_eq!((table.remove(a), table.remove(a), table.get(a)), (Some('a'), None, None));
        let again = table.insert('c').unwrap();
        assert_eq!(again as u32, a as u32, "the slot is used again");
        assert_eq!((table.get(a), table.remove(a), table.get(again)), (None, None, Some('c')));
        for made_up in [0, 1, u64::from(u32::MAX), b ^ 1 << 32, b ^ 1, u64::MAX] {
            assert_eq!((table.get(made_up), table.remove(made_up)), (None, None));
        }
    }

    #[test]
    fn a_closed_table_takes_and_has_nothing() {
        let table = Table::new();
        let numbers = thread::scope(|scope| {
            let threads: Vec<_> = (0..20)
                .map(|n| {
                    scope.spawn({
                        let table = &table;
                        move || table.insert(n)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect::<Vec<_>>()
        });
        let mut values = table.close();
        values.sort();
        assert_eq!(values, (0..20).collect::<Vec<_>>());
        assert!(
            numbers.into_iter().all(|number| table.get(number).is_none() && table.remove(number).is_none())
        );
        assert_eq!(table.insert(7), Err(7));
        assert!(table.close().is_empty());
    }

    #[test]
    fn generations_begin_anew_but_never_at_0() {
        let table = Table::new();
        let number = table.insert(()).unwrap();
        let (_, index, shard) = parts(number);
        table.write(shard).slots[index].generation = u32::MAX;
        assert_eq!(table.remove(u64::from(u32::MAX) << 32 | u64::from(number as u32)), Some(()));
        assert_eq!(table.insert(()), Ok(1 << 32 | u64::from(number as u32)));
    }
}
