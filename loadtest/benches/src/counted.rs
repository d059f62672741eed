//! What of a case is counted: the operations, not the making of their input, and not the first of them, which meet caches of the
//! allocator that are still empty.

use std::hint::black_box;

/// Operations that are counted.
pub(crate) const OPERATIONS: usize = 1000;
/// Operations before them.
const WARM_UP: usize = 10;

/// Does an operation many times, each on an input of its own.
pub(crate) fn count<T>(input: impl Fn() -> T, mut operation: impl FnMut(&mut T)) {
    let mut warm_up: Vec<T> = (0..WARM_UP).map(|_| input()).collect();
    let mut inputs: Vec<T> = (0..OPERATIONS).map(|_| input()).collect();
    warm_up.iter_mut().for_each(|input| operation(black_box(input)));
    boundary();
    for input in &mut inputs {
        operation(black_box(input));
    }
    boundary();
}

/// `cargo xtask bench` finds this by its name: what is counted lies between its first call and its second.
#[inline(never)]
fn boundary() {
    black_box(());
}
