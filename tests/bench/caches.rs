//! `quick_cache` beside `moka` on what a sidecar's memory does: pages of some kilobytes whose use falls off as that
//! of web pages does (Zipf), one in five asked for once and never again, within a bound in bytes.
//!
//! `make bench-caches`. Each cache has a process of its own, so that its memory can be told, and they run by turns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

use std::{fs, process::Command, sync::Arc, thread};

/// The bound, in bytes.
const ROOM: u64 = 64 << 20;
/// So many different pages are there.
const PAGES: f64 = 400_000.0;
/// Requests of each thread.
const REQUESTS: u64 = 2_000_000;
/// As many as the sidecar's runtime has on two cores.
const THREADS: u64 = 2;
const ROUNDS: usize = 3;
const CONTESTANTS: [&str; 2] = ["quick_cache", "moka"];

/// A page under its URL, as both are asked to keep it.
type Page = Arc<[u8]>;

trait Bounded: Send + Sync {
    /// Whether it is there.
    fn get(&self, url: &str) -> bool;
    fn put(&self, url: String, page: Page);
    fn entries(&self) -> u64;
}

#[derive(Clone)]
struct Weight;

impl quick_cache::Weighter<String, Page> for Weight {
    fn weight(&self, url: &String, page: &Page) -> u64 {
        weight(url, page)
    }
}

fn weight(url: &str, page: &Page) -> u64 {
    (url.len() + page.len()) as u64
}

struct Quick(quick_cache::sync::Cache<String, Page, Weight>);

impl Bounded for Quick {
    fn get(&self, url: &str) -> bool {
        self.0.get(url).is_some()
    }
    fn put(&self, url: String, page: Page) {
        self.0.insert(url, page);
    }
    fn entries(&self) -> u64 {
        self.0.len() as u64
    }
}

struct Moka(moka::sync::Cache<String, Page>);

impl Bounded for Moka {
    fn get(&self, url: &str) -> bool {
        self.0.get(url).is_some()
    }
    fn put(&self, url: String, page: Page) {
        self.0.insert(url, page);
    }
    fn entries(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}

fn main() {
    let contestant = std::env::args().nth(1).filter(|name| CONTESTANTS.contains(&name.as_str()));
    if let Some(name) = contestant {
        println!("{}", measure(&name));
        return;
    }
    println!("| cache | hits | CPU of a request | entries | memory beside what is kept, each |");
    println!("| --- | --- | --- | --- | --- |");
    for _ in 0..ROUNDS {
        for name in CONTESTANTS {
            let told = Command::new(std::env::current_exe().unwrap()).arg(name).output().unwrap();
            print!("{}", String::from_utf8(told.stdout).unwrap());
        }
    }
}

/// A row of the table.
fn measure(name: &str) -> String {
    let before = resident();
    let cache: Arc<dyn Bounded> = match name {
        "moka" => {
            let weigher = |url: &String, page: &Page| u32::try_from(weight(url, page)).unwrap();
            Arc::new(Moka(moka::sync::Cache::builder().max_capacity(ROOM).weigher(weigher).build()))
        }
        _ => Arc::new(Quick(quick_cache::sync::Cache::with_weighter(16_384, ROOM, Weight))),
    };
    let threads = (0..THREADS).map(|thread| {
        let cache = cache.clone();
        thread::spawn(move || play(&*cache, thread + 1))
    });
    let threads: Vec<_> = threads.collect();
    let played: Vec<(u64, u64)> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let hits: u64 = played.iter().map(|(hits, _)| hits).sum();
    let cpu: u64 = played.iter().map(|(_, cpu)| cpu).sum();
    let (entries, requests) = (cache.entries(), THREADS * REQUESTS);
    let beside = resident().saturating_sub(before).saturating_sub(ROOM) / entries;
    format!(
        "| {name} | {:.1} % | {} ns | {entries} | {beside} B |",
        hits as f64 * 100.0 / requests as f64,
        cpu / requests
    )
}

/// Asks for pages and keeps what was not there; returns the hits and the CPU time in nanoseconds.
fn play(cache: &dyn Bounded, seed: u64) -> (u64, u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = move || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let began = on_cpu();
    let mut hits = 0;
    for n in 0..REQUESTS {
        // The rank of a page is spread evenly over the logarithms: Zipf's law with the exponent 1.
        let url = if random() < 0.2 {
            format!("http://shop/once/{seed}/{n}")
        } else {
            format!("http://shop/pages/{:.0}", PAGES.powf(random()).floor())
        };
        if cache.get(&url) {
            hits += 1;
        } else {
            let size = 512 + url.bytes().fold(0, |sum, byte| (sum * 31 + usize::from(byte)) % 3584);
            cache.put(url, vec![0; size].into());
        }
    }
    (hits, on_cpu() - began)
}

/// CPU time of this thread, in nanoseconds (proc(5)).
fn on_cpu() -> u64 {
    let told = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    told.split(' ').next().unwrap().parse().unwrap()
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let told = fs::read_to_string("/proc/self/status").unwrap();
    let line = told.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
