//! Everything else that is decoded: transactions, cells, views, vault values.
#![no_main]

use crdt::{AccountView, Cell, ClusterView, EmailView, Staging, Transaction, Tries, VaultValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(transaction) = Transaction::decode(data) {
        assert_eq!(
            Transaction::decode(&transaction.encode()).as_ref(),
            Ok(&transaction)
        );
    }
    if let Ok(cell) = Cell::decode(data) {
        assert_eq!(Cell::decode(&cell.encode()).as_ref(), Ok(&cell));
    }
    if let Ok(staging) = Staging::decode(data) {
        assert_eq!(Staging::decode(&staging.encode()), Ok(staging));
    }
    if let Ok(view) = AccountView::decode(data) {
        assert_eq!(view.encode(), data);
    }
    if let Ok(view) = EmailView::decode(data) {
        assert_eq!(EmailView::decode(&view.encode()), Ok(view));
    }
    if let Ok(view) = ClusterView::decode(data) {
        assert_eq!(ClusterView::decode(&view.encode()), Ok(view));
    }
    let _ = Tries::decode(data);
    let _ = VaultValue::decode(data);
});
