//! Ranges, what the system says about numbers, and the table. What needs root is tested with
//! processes, above a machine.

use super::*;

fn secs(code: u8, signer: u8, mode: LaunchMode) -> Secs {
    Secs {
        measurement: MrEnclave::new([code; 32]),
        signer: MrSigner::new([signer; 32]),
        product_id: 1,
        isv_svn: 1,
        attributes: mode.attributes(),
        misc_select: 0,
    }
}

/// As if the numbers were found free.
fn users(first: u32, last: u32) -> BundleUsers {
    BundleUsers { range: UserRange { first, last }, group: 5 }
}

fn empty(directory: &Path, users: BundleUsers) -> UserTable {
    UserTable { path: directory.join(TABLE), users, entries: Mutex::new(Vec::new()) }
}

fn again(directory: &Path, users: BundleUsers) -> Result<UserTable, UsersError> {
    let path = directory.join(TABLE);
    let entries = parse(&path, &files::read(&path, TABLE_BYTES_MAX)?)?;
    Ok(UserTable { path, users, entries: Mutex::new(entries) })
}

#[test]
fn a_range_has_users_that_mean_nothing_else() {
    let range = |text: &str| text.parse::<UserRange>();
    let text = "1900000000-1900000015";
    assert_eq!(range(text).unwrap().to_string(), text);
    for wrong in ["", "1", "-", "1-", "a-b", "1900000000-1900000015-1", "-1-20", "0x10-0x40"] {
        assert!(matches!(range(wrong), Err(UsersError::NotARange(_))), "{wrong}");
    }
    for (size, wrong) in [(15, "1900000000-1900000014"), (0, "20-1"), (4097, "1000-5096")] {
        assert!(matches!(range(wrong), Err(UsersError::Size { found }) if found == size));
    }
    for wrong in ["0-20", "61180-61184", "65535-65560", "61170-65550", "2147483640-2147483660"] {
        let refused = range(wrong);
        let wide = matches!(refused, Err(UsersError::Reserved { .. } | UsersError::Size { .. }));
        assert!(wide, "{wrong}: {refused:?}");
    }
}

#[test]
fn numbers_of_others_are_refused_with_their_owner() {
    let range = UserRange { first: 1000, last: 1100 };
    let passwd = |text: &str| refuse_taken(PASSWD, range, text, one_user);
    passwd("root:x:0:0::/:\nanna:x:999:1050::/:\nwrong\n:::\nbert:x:1101:1::/:\n").unwrap();
    for number in [1000, 1050, 1100] {
        let refused = passwd(&format!("root:x:0:0::/:\nbert:x:{number}:1::/:\n")).unwrap_err();
        assert!(
            matches!(&refused, UsersError::Taken { number: found, owner, .. }
                if *found == number && owner == "bert"),
            "{refused}"
        );
    }
    let containers = |text: &str| refuse_taken(SUBUID, range, text, many);
    containers("anna:900:100\nbert:1101:5\ncarl:1050:0\n").unwrap();
    for line in ["anna:900:101", "bert:1100:5", "carl:500:65536", "dora:1050:1"] {
        assert!(matches!(containers(line), Err(UsersError::Taken { .. })), "{line}");
    }
}

#[test]
fn each_code_has_one_user_and_no_two_share_one() {
    let directory = tempfile::tempdir().unwrap();
    let users = users(100, 115);
    let table = empty(directory.path(), users);
    let codes = [
        secs(1, 1, LaunchMode::Production),
        secs(2, 1, LaunchMode::Production),
        secs(1, 2, LaunchMode::Production),
        secs(1, 1, LaunchMode::Debug),
    ];
    let given: Vec<u32> = codes.iter().map(|code| table.user_of(code).unwrap()).collect();
    assert_eq!(given, [100, 101, 102, 103]);
    let table = again(directory.path(), users).unwrap();
    let kept: Vec<u32> = codes.iter().map(|code| table.user_of(code).unwrap()).collect();
    assert_eq!(kept, given, "after the launcher started again");
    let mut newer = secs(1, 1, LaunchMode::Production);
    newer.isv_svn = 7;
    assert_eq!(table.user_of(&newer).unwrap(), 100, "the version is no other code");
}

#[test]
fn users_run_out_by_name_and_none_is_given_twice() {
    let directory = tempfile::tempdir().unwrap();
    let table = empty(directory.path(), users(100, 115));
    for code in 0..16 {
        table.user_of(&secs(code, 1, LaunchMode::Production)).unwrap();
    }
    let other = secs(16, 1, LaunchMode::Production);
    assert!(matches!(table.user_of(&other), Err(UsersError::Exhausted { users: 16 })));
    assert_eq!(table.user_of(&secs(3, 1, LaunchMode::Production)).unwrap(), 103);
    let longer = again(directory.path(), users(100, 131)).unwrap();
    assert_eq!(longer.user_of(&other).unwrap(), 116);
}

#[test]
fn a_user_that_cannot_be_written_down_is_not_given() {
    let directory = tempfile::tempdir().unwrap();
    let table = empty(&directory.path().join("gone"), users(100, 115));
    let code = secs(1, 1, LaunchMode::Production);
    assert!(matches!(table.user_of(&code), Err(UsersError::File(_))));
    fs::create_dir(directory.path().join("gone")).unwrap();
    assert_eq!(table.user_of(&code).unwrap(), 100);
}

#[test]
fn a_damaged_table_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let users = users(100, 115);
    let table = empty(directory.path(), users);
    table.user_of(&secs(1, 1, LaunchMode::Production)).unwrap();
    let path = directory.path().join(TABLE);
    let whole = fs::read(&path).unwrap();
    let is_refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        matches!(again(directory.path(), users), Err(UsersError::Corrupt { .. }))
    };
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        assert!(is_refused(&damaged), "byte {at}");
        assert!(is_refused(&whole[..at]), "{at} bytes");
    }
    let entry = |code| Entry {
        user: 100,
        measurement: MrEnclave::new([code; 32]),
        signer: MrSigner::new([1; 32]),
        debug: false,
    };
    assert!(is_refused(&to_bytes(&Entries(vec![entry(1), entry(2)]))), "one user, two codes");
    assert!(!is_refused(&to_bytes(&Entries(vec![entry(1)]))));
}
