# What pages and the dialog say, in English. Translators: one file a language, the same messages.
# Arguments are filled in by the page, so they stand where they are wanted, each at most once:
#   $email, $domain (of an email), $site (a web site), $minutes, $tries (how many are left), $when (a date and time)

site-description = Sign in to the web with your email address. One sign-in, no password per site.
skip = Skip to the content
nav-label = Main
nav-about = About
nav-developers = Developers
nav-account = Your account
nav-terms = Terms
nav-privacy = Privacy
footer = No password per site. No tracking.
slow = This takes longer than it should. We keep trying; you need not do anything.
noscript = This page needs JavaScript: your browser makes and keeps the keys that sign you in.
cancel = Cancel
continue = Continue
back = Back
change = Change
other-address = Use another address

## The dialog

dialog-title = Sign in
dialog-for = You sign in to
dialog-loading = One moment
dialog-site-links = This site’s own rules:
dialog-site-terms = Terms
dialog-site-privacy = Privacy

choose-title = Which address?
choose-title-account = You are signed in
choose-legend = Your addresses
choose-submit = Sign in
choose-add = Use another address of mine
choose-leave = I am somebody else

email-title = Sign in with your email address
email-title-account = Sign in to Persona
email-text = No new password: it is enough that the address is yours.
email-label = Email address
more-title = One more address
more-text = You prove once that it is yours. From then on you can sign in with it too.

password-title = Welcome back
password-label = Persona password
password-show = Show
password-submit = Sign in
password-forgot = I forgot my password
password-rules = 8 to 80 characters. A few words are better than a few signs.
mine-label = This is my computer
mine-text = Stay signed in here for four weeks. On a shared computer, untick this: nothing is kept.

create-title = New here? Choose a password
create-text = One password, for Persona only. No site ever sees it. Then we send you a mail, to see that the address is yours.
create-label = New Persona password
create-submit = Send me the mail
transition-title = Choose a password
transition-text = So far your email provider vouched for you. It no longer does, so you need a password for Persona itself. Then we send you a mail, to see that the address is yours.

add-title = Is this address yours too?
add-text = We send a mail to { $email }. With the answer the address becomes one of yours here, also if it belonged to another account until now.
add-password = Your account has no password yet. Choose one: it is for Persona only.
add-submit = Send me the mail
again-title = Confirm this address once more
again-text = Your password was reset since { $email } was last confirmed, so we ask whether it is still yours. We send you a mail.
again-submit = Send me the mail

mail-title = Look into your mail
mail-text = We have written to { $email }.
mail-open = Open the link in the mail, on any device. This window goes on by itself.
mail-open-reset = Open the link in the mail and choose a new password there. Or do it here, with the code.
mail-code-label = Or type the code from the mail
mail-submit = Confirm
mail-again = Send another mail
mail-sent-again = Sent. The earlier mails still count.
mail-back = Use another address
mail-hint = Nothing there? Look into the spam folder. A mail may take a minute or two.
reset-label = New Persona password

forgot-title = A new password
forgot-text = We send a mail to { $email }. With it you choose a new password; all devices are signed out, and your other addresses have to be confirmed again.
forgot-submit = Send me the mail
locked-title = Too many wrong passwords
locked-text = To protect { $email }, no more passwords are tried here. Let us send you a mail: with it you choose a new one.

primary-title = Your email provider vouches for you
primary-text = Sign in at { $domain }. Then you come back here by yourself. Persona never sees that password.
primary-changed = { $domain } now vouches for its users itself: you no longer need your Persona password for this address. Sign in there, and you come back here by yourself.
primary-submit = Go on
refused-title = Your email provider did not vouch for you
refused-text = You were at { $domain }, and it would not confirm { $email }. Perhaps you are signed in there as somebody else, or it has a fault. It can be put right only there.
offline-title = Your email provider does not answer
offline-text = { $domain } vouches for its users itself, and cannot be reached now. We may not do it in its place. Try again later, or use another address.

leaving-title = Signed in
leaving-text = Back to { $site } …
notice-title = This cannot go on here
notice-account = To your account
trouble-title = That did not work
trouble-again = Try again

note-password-needed = Your password, please: it has been a while.
note-transition-to-secondary = Your email provider no longer vouches for you. Your Persona password counts again.
note-mail-ended = That mail can no longer be answered: it is too old, was answered already, or there were too many wrong codes. Begin again.
note-confirmed-elsewhere = Your address is confirmed. Because that was done in another browser, we need your password here.
note-primary-cancelled = You have not signed in at your email provider.
note-signed-out = You have been signed out, perhaps from another device. Sign in again.

flow-no-opener = The site goes on in its own window. You can close this one.
flow-no-answer = The page that opened this window does not answer. Go back to it, load it anew, and press its button again.
flow-http-site = That site came over plain HTTP, where anybody on the way could take its place. It has to use HTTPS.
flow-flow-ended = This sign-in has been open for too long. Go back to the site and press its button again.
flow-flow-over = This sign-in is done. Go back to the site.
flow-opener-gone = The page that asked is no longer there, so it was given nothing. Go back to the site and press its button again.
flow-signed-in-go-back = You are signed in to Persona. Your email provider’s page has cut this window from the site: go back to it and press its button again.

error-other = Something went wrong that should not have. Try again.
error-unreachable = Persona cannot be reached. Is this device connected to the internet?
error-unavailable = Persona is not available at the moment. Try again in a minute.
error-email = This is no email address.
error-password-empty = Type your password.
error-password-rules = A password has 8 to 80 characters.
error-wrong-password = This password is wrong. If you have signed up or chosen a new one lately, the newest counts.
error-locked = Too many wrong passwords. Let us send you a mail.
error-wrong-code = This code is wrong. Tries left: { $tries }.
error-code-form = The code has eight letters and digits.
error-code-ended = Too many wrong codes. Begin again.
error-mail-throttled = We have written to this address just now. Look into your mail, or try again in { $minutes } min.
error-rate-limited = Too many tries from here. Try again in { $minutes } min.
error-bad-certificate = What vouches for this address made no sense. Try again later.

## Your account

home-title = Persona
home-loading = One moment
welcome-title = Sign in to the web with your email address.
welcome-text = One sign-in for all sites that take part. No password per site, nobody who follows you from one to the next.
welcome-submit = Sign in
welcome-about = How it works
welcome-one-title = Yours
welcome-one-text = You have an email address already. That is all a site needs to know you again.
welcome-two-title = Private
welcome-two-text = Your browser answers the site. We are not asked, so we do not know where you sign in day by day.
welcome-three-title = There
welcome-three-text = Ten data centers, each able to go on alone. If half of them fail, you do not notice.

account-title = Your account
addresses-title = Email addresses
addresses-text = You can sign in with each of them.
addresses-add = Add an address
address-primary = Its domain vouches for you
address-unverified = To be confirmed: the password was reset since
address-again = Confirm
address-remove = Remove
address-not-mine = Not mine
remove-text = Remove { $email } from your account? Sites that know you by it will not know you any more.
remove-submit = Remove it
lost-title = No longer yours here
lost-text = Somebody with a newer proof has these addresses now. If that was not you, somebody else reads that mail.
account-password-title = Password
account-password-text = One password, for Persona only.
account-password-none = Your account has no password: your email provider vouches for you. You choose one when you add an address whose provider does not.
account-password-change = Change the password
account-password-old = Present password
account-password-new = New password
account-password-submit = Change it
sessions-title = Where you are signed in
sessions-text = Browsers that can sign in with your addresses.
session-current = This browser
session-when = Last seen: { $when }
session-end = End this one
sign-out = Sign out here
sign-out-everywhere = Sign out everywhere
cancel-title = Cancel the account
cancel-text = Everything that we know of you is erased.
cancel-begin = Cancel the account …
cancel-erased = This is erased, everywhere and for good:
cancel-erased-one = your addresses and your password, in all data centers, also from their logs; from backups when those end,
cancel-erased-two = all sessions: every browser is signed out,
cancel-erased-three = but not what a site has stored of you: for that, ask the site.
cancel-sure = I understand, and it cannot be undone
cancel-submit = Cancel the account
cancel-keep = Keep it
cancelled-title = Your account is gone
cancelled-text = Your data is being erased in all data centers. You can sign up again at any time.
ask-title = Your password, please
ask-text = It has been a while, and this is about your account itself.
elsewhere = Done here. Other data centers do not know it yet, because they cannot be reached now; they will as soon as they can.

said-added = { $email } is yours now.
said-removed = { $email } was removed.
said-password = Your password was changed. Other devices have been signed out.
said-ended = That browser was signed out. What it got before may work at sites for up to a day.
said-everywhere = You are signed out everywhere.
said-mail-ended = That mail can no longer be answered. Begin again.
said-elsewhere = Another browser confirmed it. It shows here in a moment.
error-sure = Tick the box first.

## Links in mails

landing-title = Confirm
landing-loading = One moment
prove-title-new = Is this your address?
prove-title-add = Add this address?
prove-title-again = Is this still your address?
prove-title-reset = Choose a new password
prove-title-transition = Confirm address and password
prove-text-new = Confirm it, and your Persona account is ready.
prove-text-add = Confirm it, and you can sign in with it too.
prove-text-again = Confirm it, and you can sign in with it again.
prove-text-reset = It is for Persona only. All devices are signed out, and your other addresses have to be confirmed again.
prove-text-transition = Confirm it, and your new Persona password counts.
prove-elsewhere = This is not the browser in which you began. So that nobody else can use your click, type the Persona password that you chose there.
prove-submit = Yes, confirm it
prove-submit-reset = Set the password
prove-not-you = If you did not ask for this, close this page. Nothing happens then.
proven-title = Confirmed
proven-title-reset = Your new password counts
proven-text = You can close this page. Where you began, it goes on by itself.
proven-account = To your account
useless-title = This link is of no use any more
useless-text = A link works once, within 24 hours. Begin again at the site, and we send you a new one.
useless-form = The link is not whole. Open it from the mail once more, or copy all of it.

## Errors

home-link = To the start
not-found-title = There is no such page
not-found-text = Perhaps the address was mistyped, or the page has moved.
unavailable-title = Back in a moment
unavailable-text = This data center is busy or being looked after. Load the page again in a minute: another one may answer.
refused-flow-title = This site cannot sign you in
refused-flow-text = Its request lacks what Persona needs. You have done nothing wrong; its makers can put it right:
cure-origin = The browser did not say which site it was: the request had no Origin header, or “null”. Send it from a page that is not sandboxed, with a Referrer-Policy other than “no-referrer”, for instance “strict-origin”.
cure-http = The site came over plain HTTP, where anybody on the way could take its place. Use HTTPS. Plain HTTP is for this machine only (localhost).
cure-form = The form is incomplete or too long. It is best left to include.js: returnTo is a path of the site itself, key the public key of this flow.

## About

about-title = About Persona
about-lead = An email address is all that it takes to sign in.
about-how-title = How it works
about-how-1 = You press a site’s button and tell Persona your email address. The first time, you answer a mail or your email provider vouches for you.
about-how-2 = From then on your browser has a key, and a certificate that says for a day: this key speaks for that address. When you sign in to a site, your browser signs a short statement for this site alone.
about-how-3 = The site checks the signature. It learns your address, and nothing else.
about-privacy-title = Who learns what
about-privacy-1 = A site learns the address that you choose for it. You may have several, and use another one at each site.
about-privacy-2 = Your email provider does not learn where you sign in. What we could see is written down on the privacy page.
about-always-title = Always there
about-always-1 = Persona runs in ten data centers at once. Each has everything, and goes on when the others do not.
about-free-title = Nobody’s garden
about-free-1 = It is an open protocol, BrowserID. Any email domain can vouch for its own users, and then we are not needed for them at all.

## Terms

terms-title = Terms
terms-lead = Short, because there is little to agree on.
terms-service-title = The service
terms-service-1 = Persona proves to web sites that you own an email address. It costs nothing, and comes as it is: we do our best that it is always there, and promise no more than that.
terms-you-title = You
terms-you-1 = Use addresses that are yours. Keep your password to yourself. Do not try to sign in as somebody else, or to break the service for others.
terms-sites-title = The sites
terms-sites-1 = What you do at a site is between you and it. It has terms and a privacy page of its own, to which the dialog links.
terms-end-title = The end
terms-end-1 = You can cancel your account at any time, on its page. We may end accounts that harm others.

## Privacy

privacy-title = Privacy
privacy-lead = What we keep of you, and what could be seen all the same.
privacy-kept-title = What we keep
privacy-kept-1 = Your email addresses; your password, hashed so that it cannot be read back; when an address was proven; when you signed in last, where, and with which kind of browser, so that you can end a session.
privacy-kept-2 = While a mail is on its way: the address, and the site at which you began, for 24 hours at most.
privacy-kept-3 = When you remove an address or cancel the account, it is erased in all data centers, from tables and logs. Backups end after a fixed time.
privacy-not-title = What we do not have
privacy-not-1 = No list of the sites that you use, no profile, no advertising, no statistics about single people. Logs hold no address and no site. Pages load nothing from anybody else.
privacy-seen-title = What remains observable
privacy-seen-1 = When you sign in, your browser loads our dialog. So whoever runs these machines, or breaks into them, could see that this browser signs in to something at this moment, and its network address.
privacy-seen-2 = Which site it is, your browser tells our page, not our servers. There are exceptions: the mail for a new address names the site at which you began; a browser that must go by redirection names the site to our server, which keeps it only in your browser’s cookie; and a site that has us check the signature instead of doing it itself shows us its name and your address in that moment.
privacy-seen-3 = A site that includes our script makes your browser fetch it now and then. That takes no cookies of ours, and does not tell us the page.
privacy-seen-4 = Sites that know you by the same address can tell among themselves that it is you. Use different addresses if that matters to you.
privacy-browser-title = In your browser
privacy-browser-1 = One cookie that says that you are signed in, one that says that you did so here before, and for a redirection one that lives two hours. On a computer that you said is yours, your browser also keeps keys, certificates, your addresses, and which one you used at which site. That list never leaves it.

## Developers

developers-title = For developers
developers-lead = A button that signs people in with an address that they have proven. Three steps, no registration, no secret to keep.
developers-one-title = 1. Include the script
developers-one-text = It is small and depends on nothing. The second form never changes, and your page’s integrity attribute sees to it.
developers-two-title = 2. Watch and ask
developers-two-text = Your own session says who is signed in. Persona speaks only after your button was pressed; it never signs anybody in or out by itself.
developers-three-title = 3. Verify on your server
developers-three-text = Send the assertion to your server, and from there to ours, with your own origin as audience. The audience is a constant of yours: never take it from the request.
developers-csrf-text = The handler that takes an assertion is a login form like any other. Without a check of its origin, another site could sign its visitors in to yours as somebody else. So it takes only requests from your own pages, and a nonce that your session knows.
developers-live-title = Try it
developers-live-text = This page is a site like yours. Its headers cut it from the windows that it opens, so it goes by redirection.
developers-live-submit = Sign in with Persona
developers-live-none = Nobody is signed in to this page.
developers-live-some = This page was told, and has verified:
developers-live-out = Sign out of this page
developers-way-title = Popup or redirection
developers-way-1 = The script opens a window. Where that is blocked, or where your page cuts itself from its windows (Cross-Origin-Opener-Policy: same-origin), it goes by redirection and comes back to returnTo. onlogin is called all the same.
developers-way-2 = The answer comes back in the fragment of the address, encrypted for your tab alone, and the script removes it. So load the script before anything that reads the fragment. A Content-Security-Policy needs the origin of Persona in script-src and form-action.
developers-way-3 = With get() there is no handler that outlives the page: after a redirection, the next call of get() gives the answer at once. Sites that use watch() need not think of it.
developers-api-title = navigator.id
developers-api-watch = Handlers: onlogin(assertion) is required; onlogout, onmatch, onready. loggedInUser is the address that your session knows, null if there is none.
developers-api-request = From a press of a button. email (a hint), nonce (comes back from the verification), siteName, siteLogo (a data: image), backgroundColor, privacyPolicy with termsOfService, returnTo (a path), oncancel.
developers-api-logout = Calls onlogout, where you end your own session. It ends nothing at Persona.
developers-api-get = The short form, without watch(): the function gets an assertion, or null.
developers-changed-title = What has changed since 2016
developers-changed-1 = watch() loads nothing from Persona: browsers no longer let a frame know who is signed in elsewhere. So nobody is signed in without your button, and nobody is signed out by a failure of ours. onlogin comes only after request(), onlogout only after logout().
developers-changed-2 = Keys and signatures are ES256, and an assertion is a JWS with a certificate before it. Verify with us, or with the public keys at /.well-known/browserid.
developers-changed-3 = A nonce may be given. Logos have to be data: images, because the dialog loads nothing from sites. forceIssuer and allowUnverified are gone.
developers-changed-4 = The audience has to be a full origin, with scheme and port.
developers-domains-title = For email domains
developers-domains-1 = A domain that vouches for its own users publishes /.well-known/browserid with public-key (or keys), authentication and provisioning. Its users then sign in at the domain, and Persona certifies none of them.
developers-domains-2 = The provisioning page signs the key of a browser whose person is signed in. It is framed once, and if browsers keep its cookies from it there, it is asked as a page of its own.
developers-domains-3 = The authentication page signs the person in, and goes on.
