//! The body of a transaction on the wire.

use crdt::transaction::{CELLS_MAX, CHANGES_MAX, RECORDS_MAX};
use crdt::{
    Cell, CellKind, DecodeError, Hlc, RecordChange, RecordKey, TRANSACTION_BYTES_MAX, Transaction, VaultValue,
};

fn transaction() -> Transaction {
    let cell = Cell {
        kind: CellKind(9),
        key: vec![1; 32],
        slot: [2; 8],
        stamp: Hlc::new(7, 8),
        value: b"value".to_vec(),
        expires_ms: 99,
    };
    Transaction {
        hlc: Hlc::new(1_700_000_000_000, 3),
        records: vec![
            RecordChange {
                key: RecordKey::CLUSTER,
                changes: vec![vec![1, 2], vec![3]],
            },
            RecordChange {
                key: RecordKey::from_bytes([b'a'; 16]),
                changes: vec![],
            },
        ],
        vault: vec![VaultValue::new([5; 16], b"ada@example.org".to_vec())],
        cells: vec![cell],
    }
}

#[test]
fn it_comes_back() {
    for transaction in [
        transaction(),
        Transaction {
            records: vec![],
            vault: vec![],
            cells: vec![],
            ..transaction()
        },
    ] {
        assert_eq!(Transaction::decode(&transaction.encode()), Ok(transaction));
    }
}

#[test]
fn byte_strings_cost_their_bytes() {
    let mut big = transaction();
    let before = big.encode().len();
    big.records[0].changes.push(vec![0xff; 1000]);
    assert_eq!(big.encode().len(), before + 1003);
}

#[test]
fn fields_of_a_newer_version_are_passed_over() {
    let mut bytes = transaction().encode();
    assert_eq!(bytes[0], 0xa5, "a map of five fields");
    bytes[0] += 1;
    bytes.extend_from_slice(&[0x63, b'n', b'e', b'w', 0x82, 0xf6, 0xa1, 0x01, 0x42, 0, 0]);
    assert_eq!(Transaction::decode(&bytes), Ok(transaction()));
}

#[track_caller]
fn check_refused(transaction: &Transaction) {
    let refused = Transaction::decode(&transaction.encode());
    assert!(
        matches!(refused, Err(DecodeError::TooLarge { .. })),
        "{refused:?}"
    );
}

#[test]
fn what_is_over_the_limits_is_refused() {
    let record = RecordChange {
        key: RecordKey::CLUSTER,
        changes: vec![],
    };
    check_refused(&Transaction {
        records: vec![record; RECORDS_MAX + 1],
        ..transaction()
    });
    let record = RecordChange {
        key: RecordKey::CLUSTER,
        changes: vec![vec![]; CHANGES_MAX + 1],
    };
    check_refused(&Transaction {
        records: vec![record],
        ..transaction()
    });
    let cell = Cell {
        key: vec![],
        value: vec![],
        ..transaction().cells[0].clone()
    };
    check_refused(&Transaction {
        cells: vec![cell; CELLS_MAX + 1],
        ..transaction()
    });
    let value = VaultValue::new([0; 16], vec![0; 4097]);
    check_refused(&Transaction {
        vault: vec![value],
        ..transaction()
    });
    let record = RecordChange {
        key: RecordKey::CLUSTER,
        changes: vec![vec![0; TRANSACTION_BYTES_MAX]],
    };
    check_refused(&Transaction {
        records: vec![record],
        ..transaction()
    });
}

#[test]
fn junk_is_an_error_and_takes_no_memory() {
    let good = transaction().encode();
    for cut in 0..good.len() {
        assert!(Transaction::decode(&good[..cut]).is_err());
    }
    // A byte string, an array and a map that say they hold more than there could be.
    for claim in [0x5b, 0x9b, 0xbb] {
        let mut bytes = vec![claim];
        bytes.extend_from_slice(&[0x7f; 8]);
        assert!(Transaction::decode(&bytes).is_err());
        let mut field = vec![0xa1, 0x61, b'r'];
        field.extend_from_slice(&bytes);
        assert!(Transaction::decode(&field).is_err());
    }
    assert!(
        Transaction::decode(&[0x81; 60_000]).is_err(),
        "nested without end"
    );
}
