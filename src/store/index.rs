//! The index: channels by id, in buckets of short lists.
//!
//! The hash has a random key of the zone, so nobody can choose ids that collide.

use siphasher::sip::SipHasher13;

use crate::store::arena::Handle;
use crate::store::channel::{Channel, HASH_BITS};
use crate::store::undo::Section;
use crate::store::zone::{Bucket, SHARDS, Store};

impl Store {
    /// Hash of a channel id.
    pub(crate) fn hash(&self, id: &[u8]) -> u64 {
        let [low, high] = self.hash_key();
        SipHasher13::new_with_keys(low, high).hash(id)
    }

    /// The shard that a hash belongs to. Each shard has its own range of buckets.
    pub(crate) fn shard_of(&self, hash: u64) -> usize {
        self.bucket_number(hash) / self.buckets_per_shard()
    }

    /// How many buckets a shard has.
    pub(crate) fn buckets_per_shard(&self) -> usize {
        self.header().buckets.get() as usize / SHARDS
    }

    /// The number of the bucket that a hash belongs to.
    pub(crate) fn bucket_number(&self, hash: u64) -> usize {
        // The number of buckets is a power of two.
        (hash % u64::from(self.header().buckets.get())) as usize
    }

    pub(crate) fn bucket_of(&self, hash: u64) -> &Bucket {
        self.bucket(self.bucket_number(hash))
    }
}

impl Section<'_> {
    /// The channel of this id.
    pub(crate) fn find(&self, hash: u64, id: &[u8]) -> Option<Handle<Channel>> {
        let mut at = self.store.bucket_of(hash).first.get();
        while let Some(handle) = at {
            let channel = self.get(handle);
            if channel.hash() == hash & HASH_BITS && self.store.channel_id_is(handle, id) {
                return Some(handle);
            }
            at = channel.hash_next.get();
        }
        None
    }

    /// Puts a new channel into the index.
    pub(crate) fn index_insert(&self, handle: Handle<Channel>) {
        let channel = self.get(handle);
        let number = self.store.bucket_number(channel.hash());
        let bucket = self.store.bucket(number);
        let first = bucket.first.get();
        self.link(&channel.hash_next, first);
        self.link(&bucket.first, Some(handle));
        if first.is_none() {
            self.mark_occupied(number, true);
        }
    }

    /// Takes a channel out of the index.
    pub(crate) fn index_remove(&self, handle: Handle<Channel>) {
        let channel = self.get(handle);
        let number = self.store.bucket_number(channel.hash());
        let bucket = self.store.bucket(number);
        let mut link = &bucket.first;
        while let Some(at) = link.get() {
            let other = self.get(at);
            if at == handle {
                self.link(link, other.hash_next.get());
                self.link(&channel.hash_next, None);
                if bucket.first.get().is_none() {
                    self.mark_occupied(number, false);
                }
                return;
            }
            link = &other.hash_next;
        }
        panic!("push stream: a channel is missing in its bucket");
    }
}
