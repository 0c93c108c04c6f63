use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

/// The vDSO of this process.
fn image() -> Vec<u8> {
    // SAFETY: no pointers.
    let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as *const u8;
    assert!(!start.is_null());
    // SAFETY: as in `symbol`.
    let first = unsafe { std::slice::from_raw_parts(start, PAGE as usize) };
    // SAFETY: as in `symbol`.
    unsafe { std::slice::from_raw_parts(start, elf::size(first).unwrap()) }.to_vec()
}

#[test]
fn code_of_the_vdso_is_found_by_its_whole_name() {
    let image = image();
    let here = elf::symbol(&image, "__vdso_clock_gettime").unwrap();
    assert!((1..image.len()).contains(&here));
    assert_eq!(elf::symbol(&image, "__vdso_clock_getti"), None);
    assert_eq!(elf::symbol(&image, "__vdso_clock_gettimes"), None);
    assert_eq!(elf::symbol(&image, ""), None);
}

#[test]
fn the_generator_is_used_exactly_where_the_kernel_has_one() {
    let is_there = elf::symbol(&image(), "__vdso_getrandom").is_some();
    assert_eq!(GENERATOR.is_some(), is_there);
    assert_eq!(fill(&mut [0; 60]), is_there);
    assert_eq!(fill(&mut []), is_there);
}

#[test]
fn no_bytes_come_twice_and_every_byte_is_filled() {
    let draw = || {
        let mut pieces = Vec::new();
        for size in (0..2000).map(|n| 16 + n % 300) {
            let mut bytes = vec![0; size];
            if !fill(&mut bytes) {
                return Vec::new();
            }
            assert_ne!(bytes[size - 16..], [0; 16]);
            pieces.extend(bytes.chunks_exact(16).map(<[u8]>::to_vec));
        }
        pieces
    };
    let drawn: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(draw)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), drawn.len());
}

#[test]
fn a_thread_gives_its_state_back() {
    let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let before = mapped();
    for _ in 0..200 {
        std::thread::spawn(|| fill(&mut [0; 8])).join().unwrap();
    }
    assert!(mapped() < before + 100);
}

#[test]
fn an_image_with_other_addresses_than_its_own_is_left_alone() {
    let image = image();
    let table = usize::try_from(u64::from_le_bytes(image[32..40].try_into().unwrap())).unwrap();
    let loaded = (0..).map(|n| table + n * 56).find(|at| image[*at..*at + 4] == [1, 0, 0, 0]).unwrap();
    for start in [0xffff_ffff_ff70_0000_u64, 0x1000, 1 << 30, u64::MAX] {
        let mut image = image.clone();
        image[loaded + 16..loaded + 24].copy_from_slice(&start.to_le_bytes());
        assert_eq!(elf::size(&image), None, "{start:x}");
    }
}

proptest! {
    #[test]
    fn damaged_images_never_panic(at in 0..1500_usize, byte: u8, end in 0..9000_usize) {
        let mut image = image();
        image[at] = byte;
        image.truncate(end);
        let _ = elf::size(&image);
        let _ = elf::symbol(&image, "__vdso_getrandom");
    }
}
