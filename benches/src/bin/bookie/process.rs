//! What the system tells of this process. Linux tells it; elsewhere it is not known.

use std::fs;

/// Bytes of its memory that are in RAM.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes: u64 = field(&status, "VmRSS:")?
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    kibibytes.checked_mul(1024)
}

/// Bytes that it has had the disk read, since it began; what came from the system's cache is not among them.
pub(crate) fn disk_read_bytes() -> Option<u64> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    field(&io, "read_bytes:")?.parse().ok()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name_at_the_front_of_a_line() {
        let text = "rchar: 5\nread_bytes: 17\ncancelled_write_bytes: 3\n";
        assert_eq!(field(text, "read_bytes:"), Some("17"));
        assert_eq!(field(text, "write_bytes:"), None);
    }
}
