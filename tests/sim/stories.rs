//! What happens to people when sites do not hear each other, lose disks and come back.

use std::time::Duration;

use crdt::AccountId;
use persona::sim::{Seed, World};

fn three(seed: u64) -> World {
    World::told(Seed::from_env_or(seed), ["oslo", "lima", "pune"])
}

#[test]
fn addresses_added_on_both_sides_of_a_cut_survive_it() {
    let mut world = three(1);
    let ada = world.at("oslo").sign_up("ada@example.org");
    world.settle();

    world.cut("lima");
    world.at("oslo").add_email(ada, "ada@oslo.example");
    world.at("lima").add_email(ada, "ada@lima.example");
    world.heal();

    world.settle();
    world.assert_emails(ada, ["ada@example.org", "ada@lima.example", "ada@oslo.example"]);
}

#[test]
fn of_two_sign_ups_with_one_address_the_later_proof_has_it() {
    let mut world = three(2);
    world.cut("lima");
    let first = world.at("oslo").sign_up("ada@example.org");
    world.pass(Duration::from_secs(2));
    let second = world.at("lima").sign_up("ada@example.org");
    assert_ne!(first, second);
    world.heal();
    world.settle();
    world.assert_emails(first, []);
    world.assert_emails(second, ["ada@example.org"]);
}

#[test]
fn an_earlier_proof_has_it_again_once_the_later_ones_account_was_reset() {
    let mut world = three(16);
    let ada = world.at("oslo").sign_up("ada@example.org");
    let bea = world.at("lima").sign_up("bea@example.org");
    world.settle();
    world.cut("pune");
    let cleo = world.at("pune").sign_up("all@example.org");
    world.pass(Duration::from_secs(2));
    world.at("oslo").add_email(ada, "all@example.org");
    world.pass(Duration::from_secs(2));
    // Bea takes it from ada, and nobody is told. Then she proves that she owns bea@, which is all that oslo knows of her:
    // whoever had her account may have had her add anything.
    world.cut("lima");
    world.at("lima").add_email_untold(bea, "all@example.org");
    world.at("oslo").reset(bea, "bea@example.org");
    world.heal();
    world.settle();
    world.assert_emails(cleo, ["all@example.org"]);
    // Also once the losers have gone.
    world.pass(Duration::from_secs(60));
    world.settle();
    world.assert_emails(cleo, ["all@example.org"]);
}

#[test]
fn what_a_restored_site_had_answered_comes_back_from_the_others() {
    let mut world = three(3);
    let ada = world.at("oslo").sign_up("ada@example.org");
    world.settle();
    world.back_up("oslo");
    world.at("oslo").add_email(ada, "ada@oslo.example");
    world.settle();
    world.restore("oslo");
    world.start_again("oslo");
    world.settle();
    world.assert_emails(ada, ["ada@example.org", "ada@oslo.example"]);
    world.at("oslo").remove_email(ada, "ada@oslo.example");
    world.settle();
    world.assert_emails(ada, ["ada@example.org"]);
}

#[test]
fn a_site_whose_disk_was_lost_comes_back_empty_and_lacks_nothing() {
    let mut world = three(4);
    let ada = world.at("pune").sign_up("ada@example.org");
    let bob = world.at("pune").sign_up("bob@example.org");
    world.settle();
    world.wipe("pune");
    world.at("oslo").cancel(bob);
    world.start_again("pune");
    world.settle();
    world.assert_emails(ada, ["ada@example.org"]);
    world.assert_emails(bob, []);
}

#[test]
fn a_copy_on_a_disk_that_did_not_open_at_once_is_copied_in_turn() {
    let mut world = three(14);
    let ada = world.at("oslo").sign_up("ada@example.org");
    world.settle();
    world.pass(Duration::from_secs(5));
    // By then no log holds it any more. From now on none is trimmed: nobody knows what pune has.
    world.wipe("pune");
    world.wipe("lima");
    world.crash("oslo");
    world.start_again("oslo");
    world.start_again("lima");
    world.until_copying("lima");
    // The batch is on its disk although the answer is an error; then the disk is full, and does not open at once.
    world.fail_next_batch_after_all("lima");
    world.fail_next_batch("lima");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.at("lima").emails(ada), ["ada@example.org"]);
    // Who has nothing copies from it only if it says that its log does not hold everything.
    world.crash("oslo");
    world.start_again("pune");
    world.pass(Duration::from_secs(20));
    assert_eq!(world.at("pune").emails(ada), ["ada@example.org"]);
    world.start_again("oslo");
    world.settle();
    world.assert_emails(ada, ["ada@example.org"]);
}

#[test]
fn of_two_halves_that_put_each_other_out_nothing_is_lost() {
    let mut world = three(5);
    let ada = world.at("oslo").sign_up("ada@example.org");
    world.settle();
    world.cut("lima");
    world.at("oslo").put_out("lima");
    world.at("lima").add_email(ada, "ada@lima.example");
    world.at("lima").put_out("oslo");
    world.at("oslo").add_email(ada, "ada@oslo.example");
    world.pass(Duration::from_secs(5));
    world.heal();
    world.settle();
    world.assert_emails(ada, ["ada@example.org", "ada@lima.example", "ada@oslo.example"]);
}

#[test]
fn one_that_is_put_out_before_it_has_forgotten_forgets_as_somebody_else() {
    let mut world = three(7);
    let ada = world.at("oslo").sign_up("ada@example.org");
    world.settle();
    world.at("oslo").cancel(ada);
    world.settle();
    world.at("oslo").put_out("lima");
    world.forget();
    world.settle();
    world.assert_emails(ada, []);
}

#[test]
fn a_loser_that_the_first_site_does_not_know_of_goes_all_the_same() {
    let mut world = three(10);
    let ada = world.at("oslo").sign_up("ada@example.org");
    world.settle();
    world.cut("pune");
    let bea = world.at("pune").sign_up("both@example.org");
    world.at("oslo").add_email(ada, "both@example.org");
    world.at("oslo").remove_email(ada, "both@example.org");
    world.heal();
    world.settle();
    world.assert_emails(bea, ["both@example.org"]);
    // When ada goes bea's claim has lost to hers. Only a scan finds that, since ada has no claim of it any more; and what
    // pune finds it waits for before it says that it has forgotten her.
    world.at("pune").cancel(ada);
    world.crash("pune");
    world.start_again("pune");
    world.forget();
    world.settle();
    world.assert_emails(bea, []);
}

#[test]
fn one_that_joins_anew_has_not_arrived_before_it_is_in() {
    let mut world = three(9);
    world.at("oslo").put_out("lima");
    world.until_out("lima");
    // On an empty disk it takes itself for a member, until it has learnt once more that it is none.
    world.wipe("lima");
    world.start_again("lima");
    world.until_out("lima");
    // Oslo enrols it, and cannot write that down.
    world.fail_next_batch("oslo");
    world.pass(Duration::from_secs(5));
    world.settle();
}

/// Oslo puts lima out, is asked to enrol it anew, and goes down with that. Pune had put oslo out before: so oslo's word is
/// void, and lima is in again by the time that oslo comes back.
fn lima_asks_one_who_is_out(seed: u64, oslo_fails: fn(&mut World)) {
    let mut world = three(seed);
    world.cut("pune");
    world.at("pune").put_out("oslo");
    world.at("oslo").put_out("lima");
    world.until_out("lima");
    oslo_fails(&mut world);
    world.ask_to_join_anew("lima");
    world.pass(Duration::from_millis(100));
    world.crash("oslo");
    world.heal();
    world.pass(Duration::from_secs(5));
    world.start_again("oslo");
    world.settle();
    world.pass(Duration::from_secs(10));
    assert!(world.all_is_stable(), "one is waited for whom nobody runs");
}

#[test]
fn one_that_nobody_could_write_down_as_somebody_else_is_still_itself() {
    lima_asks_one_who_is_out(14, |world| world.fail_next_batch("oslo"));
}

#[test]
fn one_that_was_written_down_as_somebody_else_and_not_told_so_asks_again() {
    lima_asks_one_who_is_out(15, |world| world.fail_next_batch_after_all("oslo"));
}

#[test]
fn a_flipped_bit_is_found_and_healed() {
    let mut world = three(6);
    let ada = world.at("oslo").sign_up("ada@example.org");
    world.settle();
    world.flip_bit("pune");
    world.at("lima").add_email(ada, "ada@lima.example");
    world.settle();
    world.assert_emails(ada, ["ada@example.org", "ada@lima.example"]);
}

#[test]
fn one_that_was_put_out_and_cannot_read_so_any_more_joins_anew_all_the_same() {
    let mut world = three(14);
    world.settle();
    world.at("oslo").put_out("lima");
    world.until_out("lima");
    world.cut("lima");
    // There is no account yet: the first document is the cluster record, and nobody looks at one that is out.
    world.flip_bit("lima");
    world.pass(Duration::from_secs(15));
    world.heal();
    world.settle();
    let ada = world.at("lima").sign_up("ada@example.org");
    world.settle();
    world.assert_emails(ada, ["ada@example.org"]);
}

#[test]
fn an_address_that_comes_after_its_account_was_damaged_is_healed_with_it() {
    let mut world = three(9);
    let ada = world.at("oslo").sign_up("ada@example.org");
    world.settle();
    world.cut("lima");
    world.cut("pune");
    world.at("lima").add_email(ada, "ada@lima.example");
    world.at("oslo").cancel(ada);
    world.flip_bit("pune");
    // Then pune cannot tell that ada is gone, and keeps what the address names.
    world.heal();
    world.settle();
    world.assert_emails(ada, []);
}

/// Lima holds some of what it missed, and its vector does not say so yet.
fn lima_takes_in_what_it_missed(seed: u64) -> (World, AccountId) {
    let mut world = three(seed);
    world.shorten_logs();
    world.settle();
    let ada = world.at("oslo").sign_up("ada@example.org");
    world.settle();
    world.cut("lima");
    world.at("oslo").add_email(ada, "ada@oslo.example");
    for name in ["bob", "cleo", "dan", "eve"] {
        world.at("oslo").sign_up(&format!("{name}@example.org"));
    }
    world.pass(Duration::from_secs(5));
    world.heal();
    world.slow_down("lima");
    world.until_merging("lima");
    world.pass(Duration::from_secs(1));
    // Not all of it yet.
    world.until_merging("lima");
    (world, ada)
}

#[test]
fn a_backup_made_amid_a_catch_up_goes_on_with_it() {
    let (mut world, ada) = lima_takes_in_what_it_missed(7);
    world.back_up("lima");
    world.settle();
    world.restore("lima");
    world.start_again("lima");
    world.settle();
    world.assert_emails(ada, ["ada@example.org", "ada@oslo.example"]);
}

#[test]
fn a_directory_copied_amid_a_catch_up_and_its_copy_both_go_on_with_it() {
    let (mut world, ada) = lima_takes_in_what_it_missed(8);
    world.run_copy("lima");
    world.pass(Duration::from_secs(20));
    assert_eq!(world.at("lima-copy").emails(ada), world.at("lima").emails(ada));
    world.end_copies();
    world.settle();
    assert_eq!(
        world.at("lima").emails(ada),
        ["ada@example.org", "ada@oslo.example"]
    );
}

#[test]
fn while_a_copy_runs_alone_the_original_does_not_come_back() {
    let mut world = three(13);
    let ada = world.at("lima").sign_up("ada@example.org");
    world.settle();
    world.run_copy("lima");
    world.start_again_in("lima", Duration::from_millis(100));
    world.end_copies();
    // Of two that ran at once one would be told of the other by now, and stand aside for nobody.
    world.pass(Duration::from_secs(5));
    world.settle();
    assert_eq!(world.at("lima").emails(ada), ["ada@example.org"]);
}

#[test]
fn the_last_disk_that_knows_who_has_left_is_spared() {
    let mut world = three(7);
    world.at("lima").leave();
    world.back_up("pune");
    world.let_go("lima");
    world.settle();
    assert!(!world.is_spared("oslo"), "pune knows that lima has left");

    world.restore("pune");
    assert!(world.is_spared("oslo"), "pune knows only that lima leaves");
    world.start_again("pune");
    world.settle();
    assert!(!world.is_spared("oslo"), "oslo has told pune");
    assert!(world.all_is_stable());
}

#[test]
fn who_is_gone_and_is_not_known_to_have_left_is_waited_for_until_an_operator_puts_it_out() {
    let mut world = three(8);
    world.at("lima").leave();
    world.back_up("pune");
    world.let_go("lima");
    world.restore("pune");
    world.wipe("oslo");
    world.start_again("pune");
    world.start_again("oslo");
    world.settle();
    world.pass(Duration::from_secs(60));
    assert!(!world.all_is_stable());

    world.at("pune").put_out("lima");
    world.settle();
    world.pass(Duration::from_secs(10));
    assert!(world.all_is_stable());
}
