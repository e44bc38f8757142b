# Was Seiten und Dialog sagen, auf Deutsch. Dieselben Nachrichten wie in en.ftl; dort steht, was die Argumente sind.

site-description = Melden Sie sich im Web mit Ihrer E-Mail-Adresse an. Eine Anmeldung, kein Passwort für jede Website.
skip = Zum Inhalt springen
nav-label = Hauptmenü
nav-about = Über Persona
nav-developers = Für Entwickler
nav-account = Ihr Konto
nav-terms = Bedingungen
nav-privacy = Datenschutz
footer = Kein Passwort für jede Website. Keine Verfolgung.
slow = Das dauert länger, als es sollte. Wir versuchen es weiter; Sie brauchen nichts zu tun.
noscript = Diese Seite braucht JavaScript: Ihr Browser erzeugt und verwahrt die Schlüssel, mit denen Sie sich anmelden.
cancel = Abbrechen
continue = Weiter
back = Zurück
change = Ändern
other-address = Andere Adresse verwenden

## Der Dialog

dialog-title = Anmelden
dialog-for = Sie melden sich an bei
dialog-loading = Einen Moment
dialog-site-links = Die eigenen Regeln dieser Website:
dialog-site-terms = Bedingungen
dialog-site-privacy = Datenschutz

choose-title = Mit welcher Adresse?
choose-title-account = Sie sind angemeldet
choose-legend = Ihre Adressen
choose-submit = Anmelden
choose-add = Eine andere Adresse von mir
choose-leave = Ich bin jemand anders

email-title = Mit der E-Mail-Adresse anmelden
email-title-account = Bei Persona anmelden
email-text = Kein neues Passwort: Es genügt, dass die Adresse Ihnen gehört.
email-label = E-Mail-Adresse
more-title = Noch eine Adresse
more-text = Sie zeigen einmal, dass sie Ihnen gehört. Von da an können Sie sich auch mit ihr anmelden.

password-title = Willkommen zurück
password-label = Persona-Passwort
password-show = Zeigen
password-submit = Anmelden
password-forgot = Passwort vergessen
password-rules = 8 bis 80 Zeichen. Ein paar Wörter sind besser als ein paar Sonderzeichen.
mine-label = Das ist mein Computer
mine-text = Hier vier Wochen lang angemeldet bleiben. An einem gemeinsam benutzten Computer das Häkchen entfernen: Dann bleibt hier nichts zurück.

create-title = Neu hier? Wählen Sie ein Passwort
create-text = Ein Passwort, nur für Persona. Keine Website bekommt es zu sehen. Danach schicken wir Ihnen eine E-Mail, um zu sehen, dass die Adresse Ihnen gehört.
create-label = Neues Persona-Passwort
create-submit = E-Mail schicken
transition-title = Wählen Sie ein Passwort
transition-text = Bisher hat Ihr E-Mail-Anbieter für Sie gebürgt. Das tut er nicht mehr, also brauchen Sie ein Passwort für Persona selbst. Danach schicken wir Ihnen eine E-Mail, um zu sehen, dass die Adresse Ihnen gehört.

add-title = Gehört auch diese Adresse Ihnen?
add-text = Wir schicken eine E-Mail an { $email }. Mit der Antwort wird die Adresse hier eine von Ihren, auch wenn sie bisher zu einem anderen Konto gehörte.
add-password = Ihr Konto hat noch kein Passwort. Wählen Sie eines: Es gilt nur für Persona.
add-submit = E-Mail schicken
again-title = Bestätigen Sie diese Adresse noch einmal
again-text = Seit { $email } zuletzt bestätigt wurde, ist Ihr Passwort zurückgesetzt worden. Darum fragen wir, ob die Adresse noch Ihnen gehört. Wir schicken Ihnen eine E-Mail.
again-submit = E-Mail schicken

mail-title = Sehen Sie in Ihre E-Mails
mail-text = Wir haben an { $email } geschrieben.
mail-open = Öffnen Sie den Link in der E-Mail, auf irgendeinem Gerät. Dieses Fenster macht von selbst weiter.
mail-open-reset = Öffnen Sie den Link in der E-Mail und wählen Sie dort ein neues Passwort. Oder tun Sie es hier, mit dem Code.
mail-code-label = Oder tippen Sie den Code aus der E-Mail
mail-submit = Bestätigen
mail-again = Noch eine E-Mail schicken
mail-sent-again = Abgeschickt. Die früheren E-Mails gelten weiterhin.
mail-back = Andere Adresse verwenden
mail-hint = Nichts da? Sehen Sie im Spam-Ordner nach. Eine E-Mail kann ein, zwei Minuten brauchen.
reset-label = Neues Persona-Passwort

forgot-title = Ein neues Passwort
forgot-text = Wir schicken eine E-Mail an { $email }. Mit ihr wählen Sie ein neues Passwort; alle Geräte werden abgemeldet, und Ihre anderen Adressen müssen noch einmal bestätigt werden.
forgot-submit = E-Mail schicken
locked-title = Zu viele falsche Passwörter
locked-text = Um { $email } zu schützen, werden hier keine Passwörter mehr geprüft. Lassen Sie sich eine E-Mail schicken: Mit ihr wählen Sie ein neues.

primary-title = Ihr E-Mail-Anbieter bürgt für Sie
primary-text = Melden Sie sich bei { $domain } an. Danach kommen Sie von selbst hierher zurück. Persona bekommt jenes Passwort nie zu sehen.
primary-changed = { $domain } bürgt jetzt selbst für seine Nutzer: Für diese Adresse brauchen Sie Ihr Persona-Passwort nicht mehr. Melden Sie sich dort an, dann kommen Sie von selbst hierher zurück.
primary-submit = Weiter
refused-title = Ihr E-Mail-Anbieter hat nicht für Sie gebürgt
refused-text = Sie waren bei { $domain }, und dort wurde { $email } nicht bestätigt. Vielleicht sind Sie dort als jemand anders angemeldet, oder dort ist etwas gestört. Beheben lässt es sich nur dort.
offline-title = Ihr E-Mail-Anbieter antwortet nicht
offline-text = { $domain } bürgt selbst für seine Nutzer und ist gerade nicht zu erreichen. Wir dürfen es nicht an seiner Stelle tun. Versuchen Sie es später noch einmal, oder verwenden Sie eine andere Adresse.

leaving-title = Angemeldet
leaving-text = Zurück zu { $site } …
notice-title = Hier geht es nicht weiter
notice-account = Zu Ihrem Konto
trouble-title = Das hat nicht geklappt
trouble-again = Noch einmal versuchen

note-password-needed = Ihr Passwort, bitte: Es ist eine Weile her.
note-transition-to-secondary = Ihr E-Mail-Anbieter bürgt nicht mehr für Sie. Ihr Persona-Passwort gilt wieder.
note-mail-ended = Jene E-Mail lässt sich nicht mehr beantworten: Sie ist zu alt, wurde schon beantwortet, oder es waren zu viele falsche Codes. Fangen Sie neu an.
note-confirmed-elsewhere = Ihre Adresse ist bestätigt. Weil das in einem anderen Browser geschah, brauchen wir hier Ihr Passwort.
note-primary-cancelled = Sie haben sich bei Ihrem E-Mail-Anbieter nicht angemeldet.
note-signed-out = Sie wurden abgemeldet, vielleicht von einem anderen Gerät aus. Melden Sie sich wieder an.

flow-no-opener = Die Website macht in ihrem eigenen Fenster weiter. Dieses können Sie schließen.
flow-no-answer = Die Seite, die dieses Fenster geöffnet hat, antwortet nicht. Gehen Sie zu ihr zurück, laden Sie sie neu und drücken Sie noch einmal auf ihren Knopf.
flow-http-site = Jene Website kam über unverschlüsseltes HTTP; unterwegs könnte sich jeder für sie ausgeben. Sie muss HTTPS verwenden.
flow-flow-ended = Diese Anmeldung war zu lange offen. Gehen Sie zur Website zurück und drücken Sie noch einmal auf ihren Knopf.
flow-flow-over = Diese Anmeldung ist erledigt. Gehen Sie zur Website zurück.
flow-opener-gone = Die Seite, die gefragt hat, ist nicht mehr da; sie hat nichts bekommen. Gehen Sie zur Website zurück und drücken Sie noch einmal auf ihren Knopf.
flow-signed-in-go-back = Sie sind bei Persona angemeldet. Die Seite Ihres E-Mail-Anbieters hat dieses Fenster von der Website getrennt: Gehen Sie zu ihr zurück und drücken Sie noch einmal auf ihren Knopf.

error-other = Etwas ist schiefgegangen, das nicht hätte schiefgehen dürfen. Versuchen Sie es noch einmal.
error-unreachable = Persona ist nicht zu erreichen. Ist dieses Gerät mit dem Internet verbunden?
error-unavailable = Persona ist gerade nicht verfügbar. Versuchen Sie es in einer Minute noch einmal.
error-email = Das ist keine E-Mail-Adresse.
error-password-empty = Tippen Sie Ihr Passwort.
error-password-rules = Ein Passwort hat 8 bis 80 Zeichen.
error-wrong-password = Dieses Passwort ist falsch. Falls Sie sich kürzlich neu angemeldet oder ein neues gewählt haben, gilt das neueste.
error-locked = Zu viele falsche Passwörter. Lassen Sie sich eine E-Mail schicken.
error-wrong-code = Dieser Code ist falsch. Verbleibende Versuche: { $tries }.
error-code-form = Der Code hat acht Buchstaben und Ziffern.
error-code-ended = Zu viele falsche Codes. Fangen Sie neu an.
error-mail-throttled = Wir haben eben erst an diese Adresse geschrieben. Sehen Sie in Ihre E-Mails, oder versuchen Sie es in { $minutes } min noch einmal.
error-rate-limited = Zu viele Versuche von hier. Versuchen Sie es in { $minutes } min noch einmal.
error-bad-certificate = Was für diese Adresse bürgt, ergab keinen Sinn. Versuchen Sie es später noch einmal.

## Ihr Konto

home-title = Persona
home-loading = Einen Moment
welcome-title = Melden Sie sich im Web mit Ihrer E-Mail-Adresse an.
welcome-text = Eine Anmeldung für alle Websites, die mitmachen. Kein Passwort für jede Website, niemand, der Ihnen von einer zur nächsten folgt.
welcome-submit = Anmelden
welcome-about = So funktioniert es
welcome-one-title = Ihres
welcome-one-text = Eine E-Mail-Adresse haben Sie schon. Mehr braucht eine Website nicht, um Sie wiederzuerkennen.
welcome-two-title = Vertraulich
welcome-two-text = Ihr Browser antwortet der Website. Wir werden nicht gefragt und wissen darum nicht, wo Sie sich Tag für Tag anmelden.
welcome-three-title = Da
welcome-three-text = Zehn Rechenzentren, von denen jedes allein weitermachen kann. Fällt die Hälfte aus, merken Sie nichts davon.

account-title = Ihr Konto
addresses-title = E-Mail-Adressen
addresses-text = Sie können sich mit jeder davon anmelden.
addresses-add = Adresse hinzufügen
address-primary = Ihre Domain bürgt für Sie
address-unverified = Noch zu bestätigen: Das Passwort wurde inzwischen zurückgesetzt
address-again = Bestätigen
address-remove = Entfernen
address-not-mine = Nicht meine
remove-text = { $email } aus Ihrem Konto entfernen? Websites, die Sie unter dieser Adresse kennen, kennen Sie dann nicht mehr.
remove-submit = Entfernen
lost-title = Hier nicht mehr Ihre
lost-text = Jemand mit einem neueren Nachweis hat jetzt diese Adressen. Wenn Sie das nicht selbst waren, liest jemand anders diese E-Mails.
account-password-title = Passwort
account-password-text = Ein Passwort, nur für Persona.
account-password-none = Ihr Konto hat kein Passwort: Ihr E-Mail-Anbieter bürgt für Sie. Sie wählen eines, wenn Sie eine Adresse hinzufügen, deren Anbieter das nicht tut.
account-password-change = Passwort ändern
account-password-old = Bisheriges Passwort
account-password-new = Neues Passwort
account-password-submit = Ändern
sessions-title = Wo Sie angemeldet sind
sessions-text = Browser, die sich mit Ihren Adressen anmelden können.
session-current = Dieser Browser
session-when = Zuletzt gesehen: { $when }
session-end = Beenden
sign-out = Hier abmelden
sign-out-everywhere = Überall abmelden
cancel-title = Konto auflösen
cancel-text = Alles, was wir von Ihnen wissen, wird gelöscht.
cancel-begin = Konto auflösen …
cancel-erased = Gelöscht werden, überall und endgültig:
cancel-erased-one = Ihre Adressen und Ihr Passwort, in allen Rechenzentren, auch aus deren Protokollen; aus Sicherungen, wenn diese enden,
cancel-erased-two = alle Sitzungen: Jeder Browser wird abgemeldet,
cancel-erased-three = nicht aber, was eine Website von Ihnen gespeichert hat. Danach fragen Sie die Website.
cancel-sure = Ich verstehe: Das lässt sich nicht rückgängig machen
cancel-submit = Konto auflösen
cancel-keep = Behalten
cancelled-title = Ihr Konto ist aufgelöst
cancelled-text = Ihre Daten werden in allen Rechenzentren gelöscht. Sie können sich jederzeit neu anmelden.
ask-title = Ihr Passwort, bitte
ask-text = Es ist eine Weile her, und es geht um Ihr Konto selbst.
elsewhere = Hier erledigt. Andere Rechenzentren wissen es noch nicht, weil sie gerade nicht zu erreichen sind; sie erfahren es, sobald es geht.

said-added = { $email } gehört jetzt zu Ihrem Konto.
said-removed = { $email } wurde entfernt.
said-password = Ihr Passwort wurde geändert. Andere Geräte wurden abgemeldet.
said-ended = Jener Browser wurde abgemeldet. Was er vorher bekam, kann bei Websites noch bis zu einem Tag gelten.
said-everywhere = Sie sind überall abgemeldet.
said-mail-ended = Jene E-Mail lässt sich nicht mehr beantworten. Fangen Sie neu an.
said-elsewhere = Ein anderer Browser hat es bestätigt. Hier zeigt es sich gleich.
error-sure = Setzen Sie zuerst das Häkchen.

## Links in E-Mails

landing-title = Bestätigen
landing-loading = Einen Moment
prove-title-new = Ist das Ihre Adresse?
prove-title-add = Diese Adresse hinzufügen?
prove-title-again = Ist das noch Ihre Adresse?
prove-title-reset = Wählen Sie ein neues Passwort
prove-title-transition = Adresse und Passwort bestätigen
prove-text-new = Bestätigen Sie es, und Ihr Persona-Konto ist bereit.
prove-text-add = Bestätigen Sie es, dann können Sie sich auch mit ihr anmelden.
prove-text-again = Bestätigen Sie es, dann können Sie sich wieder mit ihr anmelden.
prove-text-reset = Es gilt nur für Persona. Alle Geräte werden abgemeldet, und Ihre anderen Adressen müssen noch einmal bestätigt werden.
prove-text-transition = Bestätigen Sie es, dann gilt Ihr neues Persona-Passwort.
prove-elsewhere = Das ist nicht der Browser, in dem Sie begonnen haben. Damit niemand anders Ihren Klick benutzen kann, tippen Sie das Persona-Passwort, das Sie dort gewählt haben.
prove-submit = Ja, bestätigen
prove-submit-reset = Passwort setzen
prove-not-you = Wenn Sie das nicht verlangt haben, schließen Sie diese Seite. Dann geschieht nichts.
proven-title = Bestätigt
proven-title-reset = Ihr neues Passwort gilt
proven-text = Sie können diese Seite schließen. Dort, wo Sie begonnen haben, geht es von selbst weiter.
proven-account = Zu Ihrem Konto
useless-title = Dieser Link nützt nichts mehr
useless-text = Ein Link gilt einmal, binnen 24 Stunden. Fangen Sie bei der Website neu an, dann schicken wir Ihnen einen neuen.
useless-form = Der Link ist nicht vollständig. Öffnen Sie ihn noch einmal aus der E-Mail, oder kopieren Sie ihn ganz.

## Fehler

home-link = Zum Anfang
not-found-title = Diese Seite gibt es nicht
not-found-text = Vielleicht ist die Adresse vertippt, oder die Seite ist umgezogen.
unavailable-title = Gleich wieder da
unavailable-text = Dieses Rechenzentrum ist ausgelastet oder wird gewartet. Laden Sie die Seite in einer Minute neu: Vielleicht antwortet ein anderes.
refused-flow-title = Diese Website kann Sie nicht anmelden
refused-flow-text = Ihrer Anfrage fehlt, was Persona braucht. Sie haben nichts falsch gemacht; beheben können es die Betreiber der Website:
cure-origin = Der Browser hat nicht gesagt, welche Website es war: Der Anfrage fehlte der Origin-Header, oder er war „null“. Schicken Sie sie von einer Seite ohne Sandbox und mit einer anderen Referrer-Policy als „no-referrer“, etwa „strict-origin“.
cure-http = Die Website kam über unverschlüsseltes HTTP; unterwegs könnte sich jeder für sie ausgeben. Verwenden Sie HTTPS. Unverschlüsseltes HTTP gilt nur auf diesem Rechner selbst (localhost).
cure-form = Das Formular ist unvollständig oder zu lang. Am besten überlässt man es include.js: returnTo ist ein Pfad der Website selbst, key der öffentliche Schlüssel dieses Ablaufs.

## Über Persona

about-title = Was Persona ist
about-lead = Eine E-Mail-Adresse ist alles, was es zum Anmelden braucht.
about-how-title = So funktioniert es
about-how-1 = Sie drücken auf den Knopf einer Website und nennen Persona Ihre E-Mail-Adresse. Beim ersten Mal beantworten Sie eine E-Mail, oder Ihr E-Mail-Anbieter bürgt für Sie.
about-how-2 = Von da an hat Ihr Browser einen Schlüssel und ein Zertifikat, das einen Tag lang sagt: Dieser Schlüssel spricht für jene Adresse. Wenn Sie sich bei einer Website anmelden, unterschreibt Ihr Browser eine kurze Aussage, nur für diese Website.
about-how-3 = Die Website prüft die Unterschrift. Sie erfährt Ihre Adresse, und sonst nichts.
about-privacy-title = Wer was erfährt
about-privacy-1 = Eine Website erfährt die Adresse, die Sie für sie wählen. Sie können mehrere haben und bei jeder Website eine andere verwenden.
about-privacy-2 = Ihr E-Mail-Anbieter erfährt nicht, wo Sie sich anmelden. Was wir sehen könnten, steht auf der Seite zum Datenschutz.
about-always-title = Immer da
about-always-1 = Persona läuft in zehn Rechenzentren zugleich. Jedes hat alles und macht weiter, wenn die anderen es nicht tun.
about-free-title = Niemandes Garten
about-free-1 = Es ist ein offenes Protokoll, BrowserID. Jede E-Mail-Domain kann für ihre eigenen Nutzer bürgen; dann werden wir für sie gar nicht gebraucht.

## Bedingungen

terms-title = Bedingungen
terms-lead = Kurz, denn es gibt wenig zu vereinbaren.
terms-service-title = Der Dienst
terms-service-1 = Persona weist Websites nach, dass Ihnen eine E-Mail-Adresse gehört. Es kostet nichts und kommt, wie es ist: Wir tun unser Bestes, damit es immer da ist, und versprechen nicht mehr als das.
terms-you-title = Sie
terms-you-1 = Verwenden Sie Adressen, die Ihnen gehören. Behalten Sie Ihr Passwort für sich. Versuchen Sie nicht, sich als jemand anders anzumelden oder den Dienst für andere zu stören.
terms-sites-title = Die Websites
terms-sites-1 = Was Sie bei einer Website tun, geht Sie und sie an. Sie hat eigene Bedingungen und eine eigene Seite zum Datenschutz, auf die der Dialog verweist.
terms-end-title = Das Ende
terms-end-1 = Sie können Ihr Konto jederzeit auf seiner Seite auflösen. Wir dürfen Konten beenden, die anderen schaden.

## Datenschutz

privacy-title = Datenschutz
privacy-lead = Was wir von Ihnen aufbewahren, und was sich trotzdem beobachten ließe.
privacy-kept-title = Was wir aufbewahren
privacy-kept-1 = Ihre E-Mail-Adressen; Ihr Passwort, so gehasht, dass es sich nicht zurücklesen lässt; wann eine Adresse nachgewiesen wurde; wann Sie sich zuletzt angemeldet haben, wo, und mit welcher Art von Browser, damit Sie eine Sitzung beenden können.
privacy-kept-2 = Solange eine E-Mail unterwegs ist: die Adresse, und die Website, bei der Sie begonnen haben, höchstens 24 Stunden lang.
privacy-kept-3 = Wenn Sie eine Adresse entfernen oder das Konto auflösen, wird es in allen Rechenzentren gelöscht, aus Tabellen und Protokollen. Sicherungen enden nach fester Zeit.
privacy-not-title = Was wir nicht haben
privacy-not-1 = Keine Liste der Websites, die Sie benutzen, kein Profil, keine Werbung, keine Statistik über Einzelne. Protokolle enthalten keine Adresse und keine Website. Die Seiten laden nichts von anderen.
privacy-seen-title = Was beobachtbar bleibt
privacy-seen-1 = Wenn Sie sich anmelden, lädt Ihr Browser unseren Dialog. Wer diese Rechner betreibt oder in sie einbricht, könnte also sehen, dass dieser Browser sich gerade irgendwo anmeldet, und seine Netzadresse.
privacy-seen-2 = Welche Website es ist, sagt Ihr Browser unserer Seite, nicht unseren Servern. Ausnahmen: Die E-Mail für eine neue Adresse nennt die Website, bei der Sie begonnen haben; ein Browser, der über eine Weiterleitung gehen muss, nennt die Website unserem Server, der sie nur im Cookie Ihres Browsers aufbewahrt; und eine Website, die die Unterschrift von uns prüfen lässt, statt es selbst zu tun, zeigt uns in diesem Augenblick ihren Namen und Ihre Adresse.
privacy-seen-3 = Eine Website, die unser Skript einbindet, lässt Ihren Browser es hin und wieder holen. Dazu braucht es keine Cookies von uns, und die Seite erfahren wir nicht.
privacy-seen-4 = Websites, die Sie unter derselben Adresse kennen, können untereinander feststellen, dass Sie es sind. Verwenden Sie verschiedene Adressen, wenn Ihnen das wichtig ist.
privacy-browser-title = In Ihrem Browser
privacy-browser-1 = Ein Cookie, das sagt, dass Sie angemeldet sind, eines, das sagt, dass Sie es hier schon einmal waren, und für eine Weiterleitung eines, das zwei Stunden lebt. Auf einem Computer, den Sie als Ihren bezeichnet haben, verwahrt Ihr Browser auch Schlüssel, Zertifikate, Ihre Adressen und welche Sie bei welcher Website verwendet haben. Diese Liste verlässt ihn nie.

## Für Entwickler

developers-title = Für Entwickler
developers-lead = Ein Knopf, der Menschen mit einer nachgewiesenen Adresse anmeldet. Drei Schritte, keine Registrierung, kein Geheimnis zu hüten.
developers-one-title = 1. Das Skript einbinden
developers-one-text = Es ist klein und hängt von nichts ab. Die zweite Form ändert sich nie; das integrity-Attribut Ihrer Seite achtet darauf.
developers-two-title = 2. Zusehen und fragen
developers-two-text = Wer angemeldet ist, sagt Ihre eigene Sitzung. Persona spricht erst, wenn Ihr Knopf gedrückt wurde; von sich aus meldet es niemanden an oder ab.
developers-three-title = 3. Auf Ihrem Server prüfen
developers-three-text = Schicken Sie die Assertion an Ihren Server, und von dort an unseren, mit Ihrem eigenen Origin als audience. Die audience ist eine Konstante: Nehmen Sie sie nie aus der Anfrage.
developers-csrf-text = Was eine Assertion annimmt, ist ein Anmeldeformular wie jedes andere. Prüft es nicht, woher sie kommt, könnte eine andere Website ihre Besucher bei Ihrer als jemand anders anmelden. Darum nimmt es nur Anfragen Ihrer eigenen Seiten an, und eine Nonce, die Ihre Sitzung kennt.
developers-live-title = Ausprobieren
developers-live-text = Diese Seite ist eine Website wie Ihre. Ihre Header trennen sie von Fenstern, die sie öffnet, also geht sie über eine Weiterleitung.
developers-live-submit = Mit Persona anmelden
developers-live-none = Bei dieser Seite ist niemand angemeldet.
developers-live-some = Dieser Seite wurde gesagt, und sie hat geprüft:
developers-live-out = Von dieser Seite abmelden
developers-way-title = Fenster oder Weiterleitung
developers-way-1 = Das Skript öffnet ein Fenster. Wo das blockiert wird, oder wo Ihre Seite sich von ihren Fenstern trennt (Cross-Origin-Opener-Policy: same-origin), geht es über eine Weiterleitung und kommt zu returnTo zurück. onlogin wird trotzdem gerufen.
developers-way-2 = Die Antwort kommt im Fragment der Adresse zurück, verschlüsselt für Ihren Tab allein, und das Skript entfernt sie. Laden Sie das Skript also vor allem, was das Fragment liest. Eine Content-Security-Policy braucht den Origin von Persona in script-src und form-action.
developers-way-3 = Bei get() gibt es keine Funktion, die die Seite überlebt: Nach einer Weiterleitung gibt der nächste Aufruf von get() die Antwort sofort. Wer watch() benutzt, muss daran nicht denken.
developers-api-title = navigator.id
developers-api-watch = Funktionen: onlogin(assertion) ist nötig; onlogout, onmatch, onready. loggedInUser ist die Adresse, die Ihre Sitzung kennt, null, wenn es keine gibt.
developers-api-request = Auf einen Knopfdruck hin. email (ein Hinweis), nonce (kommt aus der Prüfung zurück), siteName, siteLogo (ein data:-Bild), backgroundColor, privacyPolicy mit termsOfService, returnTo (ein Pfad), oncancel.
developers-api-logout = Ruft onlogout, wo Sie Ihre eigene Sitzung beenden. Bei Persona beendet es nichts.
developers-api-get = Die kurze Form, ohne watch(): Die Funktion bekommt eine Assertion, oder null.
developers-changed-title = Was sich seit 2016 geändert hat
developers-changed-1 = watch() lädt nichts von Persona: Browser lassen einen Frame nicht mehr wissen, wer anderswo angemeldet ist. Also wird ohne Ihren Knopf niemand angemeldet, und niemand durch einen Fehler bei uns abgemeldet. onlogin kommt nur nach request(), onlogout nur nach logout().
developers-changed-2 = Schlüssel und Unterschriften sind ES256, und eine Assertion ist ein JWS mit einem Zertifikat davor. Prüfen Sie mit uns, oder mit den öffentlichen Schlüsseln unter /.well-known/browserid.
developers-changed-3 = Eine nonce kann mitgegeben werden. Logos müssen data:-Bilder sein, weil der Dialog nichts von Websites lädt. forceIssuer und allowUnverified gibt es nicht mehr.
developers-changed-4 = Die audience muss ein ganzer Origin sein, mit Schema und Port.
developers-domains-title = Für E-Mail-Domains
developers-domains-1 = Eine Domain, die für ihre eigenen Nutzer bürgt, veröffentlicht /.well-known/browserid mit public-key (oder keys), authentication und provisioning. Ihre Nutzer melden sich dann bei ihr an, und Persona zertifiziert keinen von ihnen.
developers-domains-2 = Die Provisioning-Seite unterschreibt den Schlüssel eines Browsers, dessen Mensch angemeldet ist. Sie wird einmal in einem Frame gefragt, und wenn Browser ihr dort die Cookies vorenthalten, als eigene Seite.
developers-domains-3 = Die Authentication-Seite meldet den Menschen an und macht weiter.
