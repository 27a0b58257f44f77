//! Faults: calls that fail, and what they leave.

use super::*;

#[test]
fn after_a_failed_sync_a_later_one_succeeds_and_proves_nothing() {
    let mut lost = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        disk.put(Path::new("f"), &[1; SECTOR]);
        let file = create(&disk, "f");
        file.write_at(0, &[2; SECTOR]).unwrap();
        disk.fail_next(OpKind::Sync, Fault::Io);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(
            read(&disk, "f").unwrap(),
            [2; SECTOR],
            "it is seen all the same"
        );
        disk.restart();
        lost += usize::from(read(&disk, "f").unwrap() != [2; SECTOR]);
    }
    assert!((5..=35).contains(&lost), "{lost}");
}

#[test]
fn bytes_written_again_after_a_failed_sync_can_be_made_durable() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let file = create(&disk, "f");
        sync_root(&disk);
        file.write_at(0, &[2; 9_000]).unwrap();
        disk.fail_next(OpKind::Sync, Fault::Io);
        assert!(file.sync_data().is_err());
        file.write_at(0, &[2; 9_000]).unwrap();
        file.sync_data().unwrap();
        disk.restart();
        assert_eq!(read(&disk, "f").unwrap(), [2; 9_000]);
    }
}

#[test]
fn a_failed_write_may_have_done_any_part() {
    let parts: BTreeSet<usize> = (0..60)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            disk.put(Path::new("f"), &[1; 4 * SECTOR]);
            disk.fail_next(OpKind::Write, Fault::Io);
            let error = create(&disk, "f")
                .write_at(0, &[2; 4 * SECTOR])
                .unwrap_err();
            assert_eq!(error.raw_os_error(), Some(5));
            let bytes = read(&disk, "f").unwrap();
            bytes.iter().filter(|byte| **byte == 2).count() / SECTOR
        })
        .collect();
    assert_eq!(parts, (0..=4).collect());
}

#[test]
fn a_power_cut_at_each_call_stops_everything_until_power_is_back() {
    let run = |disk: &SimDisk| -> io::Result<()> {
        let file = disk.open(Path::new("f"), OpenMode::OpenOrCreate)?;
        file.write_at(0, b"abc")?;
        file.sync_data()?;
        disk.sync_dir(Path::new(""))
    };
    let whole = SimDisk::new(1);
    run(&whole).unwrap();
    for op in 1..=whole.ops() {
        for fault in [Fault::PowerCut, Fault::PowerCutAfter] {
            let disk = SimDisk::new(op);
            disk.fail_at(op, fault);
            assert!(is_power_loss(&run(&disk).unwrap_err()));
            assert!(disk.is_off() && is_power_loss(&run(&disk).unwrap_err()));
            assert_eq!(disk.ops(), op, "calls without power are not counted");
            disk.restart();
            run(&disk).unwrap();
            disk.restart();
            assert_eq!(read(&disk, "f").unwrap(), b"abc");
        }
    }
}

#[test]
fn a_full_disk_refuses_bytes_and_takes_them_when_there_is_room() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(3 * 4096));
    let file = create(&disk, "f");
    file.write_at(0, &[1; 2 * 4096]).unwrap();
    assert_eq!(disk.space(Path::new("")).unwrap().free_bytes, 4096);
    let error = file.write_at(2 * 4096, &[1; 2 * 4096]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    file.write_at(0, &[2; 2 * 4096]).unwrap();
    file.set_len(0).unwrap();
    file.write_at(0, &[1; 3 * 4096]).unwrap();
    disk.remove(Path::new("f")).unwrap();
    assert_eq!(
        disk.space(Path::new("")).unwrap().free_bytes,
        0,
        "it is still open"
    );
    drop(file);
    assert_eq!(disk.space(Path::new("")).unwrap().free_bytes, 3 * 4096);
}

#[test]
fn a_read_only_disk_refuses_changes_and_reads_on() {
    let (disk, file) = with_file("f", 1, 10);
    disk.set_read_only(true);
    let refused = [
        file.write_at(0, b"x").unwrap_err(),
        file.set_len(1).unwrap_err(),
        disk.remove(Path::new("f")).unwrap_err(),
        disk.open(Path::new("g"), OpenMode::CreateNew).unwrap_err(),
    ];
    assert!(
        refused
            .iter()
            .all(|error| error.kind() == ErrorKind::ReadOnlyFilesystem)
    );
    assert_eq!(file.len().unwrap(), 10);
    disk.heal();
    file.write_at(0, b"x").unwrap();
}

#[test]
fn faults_by_chance_come_about_as_often_as_asked() {
    let (disk, file) = with_file("f", 1, 10);
    disk.set_fault_rates(FaultRates {
        read_per_million: 100_000,
        ..FaultRates::default()
    });
    let failed = (0..2_000)
        .filter(|_| file.read_at(0, &mut [0]).is_err())
        .count();
    assert!((120..280).contains(&failed), "{failed}");
}

#[test]
fn a_misdirected_write_reports_success_and_lands_elsewhere() {
    let landed: BTreeSet<Option<usize>> = (0..30)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            disk.put(Path::new("f"), &[1; 3 * 4096]);
            disk.fail_next(OpKind::Write, Fault::Misdirected);
            create(&disk, "f").write_at(4096, &[2; 100]).unwrap();
            let bytes = read(&disk, "f").unwrap();
            bytes.iter().position(|byte| *byte == 2).map(|at| at / 4096)
        })
        .collect();
    assert_eq!(landed, (0..4).map(Some).collect());
}

#[test]
fn time_is_counted_and_not_spent() {
    let (disk, file) = with_file("f", 1, 10);
    disk.set_latency(Latency {
        per_op: Duration::from_micros(10),
        per_mib: Duration::from_millis(1),
        per_sync: Duration::from_millis(5),
        jitter_max: Duration::ZERO,
    });
    file.write_at(0, &vec![3; 1 << 20]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.busy(), Duration::from_micros(6_020));
}
