//! Random bytes from the kernel, without a system call where it lets a process have them so: since Linux 6.11 its generator
//! runs in the vDSO, code of the kernel's that every process has in its memory. That saves a twenty-fifth of a request. The
//! kernel itself decides when a state is stale: after a fork, when a virtual machine was copied, whenever it seeds its own
//! generator (vdso(7); `include/uapi/linux/random.h` and `lib/vdso/getrandom.c` of Linux). Only a process whose memory was
//! saved and is set going twice under one kernel would draw the same bytes twice.

use std::{
    ffi::{c_uint, c_void},
    ptr::{self, NonNull},
    sync::LazyLock,
};

/// `__vdso_getrandom`: buffer, its size, flags, the thread's state, its size; the number of bytes, or a negative error.
type Getrandom = unsafe extern "C" fn(*mut c_void, usize, c_uint, *mut c_void, usize) -> isize;

/// `struct vgetrandom_opaque_params`: what a state is to be made of.
#[repr(C)]
#[derive(Default)]
struct Params {
    size: u32,
    protection: u32,
    flags: u32,
    reserved: [u32; 13],
}

/// The generator in the vDSO, if there is one.
struct Generator {
    call: Getrandom,
    params: Params,
}

static GENERATOR: LazyLock<Option<Generator>> = LazyLock::new(Generator::find);

thread_local! {
    static STATE: Option<State> = State::new();
}

/// Fills `bytes` without a system call; `false` if that cannot be done here, and nothing is to be relied on then.
#[must_use]
pub fn fill(bytes: &mut [u8]) -> bool {
    STATE.try_with(|state| state.as_ref().is_some_and(|state| state.fill(bytes))).unwrap_or(false)
}

impl Generator {
    fn find() -> Option<Self> {
        let code = symbol("__vdso_getrandom")?;
        // SAFETY: the kernel put a function of this type there.
        let call: Getrandom = unsafe { std::mem::transmute(code.as_ptr()) };
        let mut params = Params::default();
        // SAFETY: with this size the last pointer is to a `Params`, which is filled in; no other is looked at.
        let result = unsafe { call(ptr::null_mut(), 0, 0, ptr::from_mut(&mut params).cast(), usize::MAX) };
        (result == 0 && params.size > 0 && params.size <= PAGE).then_some(Self { call, params })
    }
}

/// The smallest page that there is; a state fits into one.
const PAGE: u32 = 4096;

/// The generator's state of one thread, in memory that the kernel may take away at any time: the generator notices.
struct State {
    generator: &'static Generator,
    place: NonNull<c_void>,
}

impl State {
    fn new() -> Option<Self> {
        let generator = GENERATOR.as_ref()?;
        let Params { protection, flags, .. } = generator.params;
        // SAFETY: a new mapping, of the kind that the kernel has asked for.
        let place =
            unsafe { libc::mmap(ptr::null_mut(), PAGE as usize, protection as i32, flags as i32, -1, 0) };
        (place != libc::MAP_FAILED).then_some(())?;
        Some(Self { generator, place: NonNull::new(place)? })
    }

    fn fill(&self, bytes: &mut [u8]) -> bool {
        let Generator { call, params } = self.generator;
        let (place, size) = (self.place.as_ptr(), params.size as usize);
        // SAFETY: `bytes` may be written; the state is this thread's alone and as large as the generator wants it.
        let count = unsafe { call(bytes.as_mut_ptr().cast(), bytes.len(), 0, place, size) };
        usize::try_from(count) == Ok(bytes.len())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new`, and nothing points to it any more.
        unsafe { libc::munmap(self.place.as_ptr(), PAGE as usize) };
    }
}

/// Where the vDSO has the code called `name`.
fn symbol(name: &str) -> Option<NonNull<c_void>> {
    // SAFETY: no pointers.
    let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as *const u8;
    if start.is_null() {
        return None;
    }
    // SAFETY: the kernel maps at least a page there, for as long as the process lives, and never changes it.
    let first = unsafe { std::slice::from_raw_parts(start, PAGE as usize) };
    let size = elf::size(first)?;
    // SAFETY: so much of it is mapped, by its own headers.
    let image = unsafe { std::slice::from_raw_parts(start, size) };
    let code = image.get(elf::symbol(image, name)?..)?;
    NonNull::new(code.as_ptr().cast_mut().cast())
}

/// As much of ELF (System V ABI, 64 bits) as the vDSO needs. Offsets in files and in memory are the same there.
mod elf {
    const LOAD: u32 = 1;
    const DYNAMIC: u32 = 2;
    const HASH: u64 = 4;
    const STRINGS: u64 = 5;
    const SYMBOLS: u64 = 6;

    /// Larger than any vDSO.
    const MOST: usize = 1 << 20;

    /// Bytes of an image that is loaded as a whole, by the headers at its beginning. `None` if its addresses do not count
    /// from there: some kernels (gVisor's) give those that it has in memory.
    pub fn size(image: &[u8]) -> Option<usize> {
        let ends = segments(image, LOAD)?.map(|(start, size)| start.checked_add(size));
        let end = ends.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        let first = segments(image, LOAD)?.map(|(start, _)| start).min()?;
        (first == 0 && end <= MOST).then_some(end)
    }

    /// Where the code called `name` begins.
    pub fn symbol(image: &[u8], name: &str) -> Option<usize> {
        let (dynamic, _) = segments(image, DYNAMIC)?.next()?;
        let entry = |wanted| {
            let entries =
                (0..64).map_while(|n| Some((u64_at(image, dynamic + n * 16)?, dynamic + n * 16 + 8)));
            let mut entries = entries.take_while(|(tag, _)| *tag != 0);
            usize_at(image, entries.find(|(tag, _)| *tag == wanted)?.1)
        };
        let (hash, strings, symbols) = (entry(HASH)?, entry(STRINGS)?, entry(SYMBOLS)?);
        let count = u32_at(image, hash.checked_add(4)?)?.min(4096) as usize;
        (0..count).find_map(|n| {
            let symbol = symbols.checked_add(n * 24)?;
            let text = image.get(strings.checked_add(u32_at(image, symbol)? as usize)?..)?;
            let is_it = text.strip_prefix(name.as_bytes())?.first() == Some(&0);
            let is_defined = u16_at(image, symbol.checked_add(6)?)? != 0;
            (is_it && is_defined).then(|| usize_at(image, symbol + 8))?
        })
    }

    /// Start and size in memory of the segments of one kind.
    fn segments(image: &[u8], kind: u32) -> Option<impl Iterator<Item = (usize, usize)>> {
        // 64 bits, little-endian.
        image.starts_with(b"\x7fELF\x02\x01").then_some(())?;
        let (table, each, count) = (usize_at(image, 32)?, u16_at(image, 54)?, u16_at(image, 56)?);
        let header = move |n: u16| table.checked_add(usize::from(n) * usize::from(each));
        Some((0..count).filter_map(move |n| {
            let header = header(n)?;
            let is_wanted = u32_at(image, header)? == kind;
            is_wanted.then(|| {
                Some((usize_at(image, header.checked_add(16)?)?, usize_at(image, header.checked_add(40)?)?))
            })?
        }))
    }

    fn u16_at(image: &[u8], at: usize) -> Option<u16> {
        image.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
    }

    fn u32_at(image: &[u8], at: usize) -> Option<u32> {
        image.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
    }

    fn u64_at(image: &[u8], at: usize) -> Option<u64> {
        image.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
    }

    fn usize_at(image: &[u8], at: usize) -> Option<usize> {
        usize::try_from(u64_at(image, at)?).ok()
    }
}

#[cfg(test)]
mod tests;
