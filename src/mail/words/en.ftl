# The words of every mail, in English. Translators: one file a language, the same messages and attributes.
# A message is a kind of mail; its attributes are:
#   .subject  the subject; it has no arguments, so that no stranger's text gets into a header
#   .heading  the first line of the body
#   .text     what this is about
#   .action   what the link does (on the button; the text part has it before the link)

-service = Persona

new-account =
    .subject = Confirm your email address for { -service }
    .heading = Confirm your email address
    .text = Somebody, we hope you, wants to sign in with this email address. Confirm that it is yours, and your { -service } account is ready.
    .action = Confirm this address

add-address =
    .subject = Confirm your new email address for { -service }
    .heading = Confirm one more email address
    .text = Somebody, we hope you, wants to add this email address to their { -service } account. Confirm that it is yours.
    .action = Confirm this address

reverify =
    .subject = Confirm your email address for { -service } again
    .heading = Confirm your email address again
    .text = The password of your { -service } account was reset. To go on using this email address with it, confirm that it is still yours.
    .action = Confirm this address

reset-password =
    .subject = Choose a new { -service } password
    .heading = Choose a new password
    .text = Somebody, we hope you, forgot the password of the { -service } account with this email address. You can choose a new one. All devices will be signed out.
    .action = Choose a new password

transition =
    .subject = Confirm your { -service } password
    .heading = Confirm your email address and password
    .text = So far your email provider vouched for you when you signed in. It no longer does, so you chose a password for { -service } itself. Confirm that this email address is yours.
    .action = Confirm address and password

began-at = Begun at this web site:
code = Or type this code where you began:
code-warning = Type it nowhere else, and tell it to nobody. We never ask for it.
expires = The link and the code work once, within 24 hours.
not-asked = If you did not ask for this, you need not do anything: without this mail nothing happens.

password-changed =
    .subject = Your { -service } password was changed
    .heading = Your password was changed
    .text = The password of your { -service } account was changed with the old one. Other devices have been signed out.
    .action = Manage your account
    .not-you = If this was not you, somebody knows your password. Follow the link, say that you forgot your password, and choose a new one: that signs everybody else out. Then look at the addresses of your account.

password-reset =
    .subject = Your { -service } password was reset
    .heading = Your password was reset
    .text = A new password was chosen for your { -service } account by way of a mail to one of its addresses. All devices have been signed out, and the account's other addresses must be confirmed again.
    .action = Manage your account
    .not-you = If this was not you, somebody can read your mail. Change the password of your mailbox first. Then follow the link, say that you forgot your password, and choose a new one.

# $address: the address that was added
address-added =
    .subject = An email address was added to your { -service } account
    .heading = An email address was added
    .text = This email address was added to your { -service } account: { $address }
    .action = Manage your account
    .not-you = If this was not you, somebody is in your account. Follow the link, say that you forgot your password, and choose a new one; then remove the address.

# $address: the address that moved
address-moved =
    .subject = An email address left your { -service } account
    .heading = An email address moved to another account
    .text = This email address was confirmed for another { -service } account and is no longer part of yours: { $address }
    .action = Manage your account
    .not-you = If this was not you, somebody can read the mail of that address. Change the password of that mailbox first. Then follow the link, sign in, and add the address again.

# $address: the address that was removed
address-removed =
    .subject = An email address was removed from your { -service } account
    .heading = An email address was removed
    .text = This email address was removed from your { -service } account: { $address }
    .action = Manage your account
    .not-you = If this was not you, somebody is in your account. Follow the link, say that you forgot your password, and choose a new one; then add the address again.

account-cancelled =
    .subject = Your { -service } account was cancelled
    .heading = Your account was cancelled
    .text = Your { -service } account was cancelled, and what it held is being erased. Web sites keep the accounts that you have there.
    .action = Go to { -service }
    .not-you = If this was not you, somebody was in your account. Make sure that only you can read your mail. Then follow the link and sign up with this address again.

automatic = You get this mail because somebody used this address with { -service }. Nobody reads answers to it.
