//! A lease has one holder: it cannot be copied, so its batch cannot be given back twice.

use selvedge_core::BlockLease;

fn twice(lease: BlockLease<'_>) {
    let other = lease.clone();
    drop(lease);
    drop(lease);
    drop(other);
}

fn main() {}
