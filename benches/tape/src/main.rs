//! How fast simd-json makes its tape of pages, which names no column and builds no array: MB/s of one core, the best
//! and the median of some rounds. `cargo run --release -- FILE…`

use std::hint::black_box;
use std::time::{Duration, Instant};

/// An allocator that keeps what it is given back, so that no page fault is counted.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    for file in std::env::args().skip(1) {
        let page = std::fs::read(&file).expect("a page");
        let mut buffers = simd_json::Buffers::new(page.len());
        let mut copy = page.clone();
        let mut times: Vec<Duration> = (0..41)
            .map(|_| {
                // It writes into the text, so it needs a fresh one, which is not its time.
                copy.copy_from_slice(&page);
                let began = Instant::now();
                let tape = simd_json::to_tape_with_buffers(&mut copy, &mut buffers);
                black_box(tape.expect("JSON"));
                began.elapsed()
            })
            .collect();
        times.sort();
        let rate = |time: Duration| page.len() as f64 / time.as_secs_f64() / 1e6;
        let (best, median) = (rate(times[0]), rate(times[times.len() / 2]));
        println!("{file}: {} bytes, simd-json tape {best:.0} MB/s at best, {median:.0} in the middle", page.len());
    }
}
