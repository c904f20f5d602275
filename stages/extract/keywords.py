"""Words that distinguish boilerplate from main text, in class names and ids and in the text itself, found all in one pass."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

OTHER = 26
"""The symbol of all that is no letter, after those of a to z."""

# One group a bit. `_` stands for anything but a letter (a run of it counts once), also between the parts of camelCase.
CLASS_WORDS = (
    "articlebody articletext article_body article_text article_content entry_content entrycontent post_content postcontent"
    " post_body postbody story_body storybody body_text bodytext text_body articlecontent main_text",
    "article",
    "content",
    "post_ posts _blog",
    "entry",
    "story",
    "_main maincontent main_content",
    "text copy_ richtext wysiwyg paragraph markdown prose",
    "body",
    "title headline heading subtitle",
    "lead_ lede intro abstract summary excerpt teaser standfirst dek_ vorspann",
    "comment disqus kommentar respond_ reply replies",
    "sidebar side_bar aside_ rightcol leftcol right_col left_col secondary rail_ marginal",
    "footer _foot_ colophon",
    "header masthead _head_ _hd_",
    "_nav navbar navigation navi_ _menu menu_ submenu",
    "related similar recommend more_ also_ weitere moreon readmore read_more linked_",
    "share sharing social facebook twitter addtoany follow_ whatsapp",
    "_ad_ _ads_ advert adsense sponsor promo_ promot banner werbung anzeige outbrain taboola",
    "widget module_ _box_ block_ panel_",
    "breadcrumb crumb",
    "cookie consent gdpr privacy popup modal overlay dialog lightbox",
    "login signin sign_in signup register account_ user_ profile",
    "_tag_ _tags_ taglist tagcloud category categories topic_ topics_ keyword",
    "author byline bio_ autor",
    "date_ time_ timestamp published posted_ datum",
    "meta_ postmeta info_ details_ dateline credit",
    "caption figure_ image_ photo_ picture_ gallery slide carousel thumb media_ video_",
    "newsletter subscribe subscription mailing",
    "popular trending latest recent most_ archive",
    "search_ searchform suche",
    "copyright legal_ disclaimer imprint impressum",
    "pagination pager _prev_ _next_ page_nav pagenav",
    "print_ toolbar tools_ actions_ button btn_ icon",
    "skip_ sr_only screen_reader visually_hidden visuallyhidden offscreen hidden_ _hide_",
    "list_ _items_ grid_ card",
    "quote pullquote quotation",
    "forum thread message_ topicstarter answer question",
    "product price_ shop_ cart_ buy_",
    "description beschreibung",
    "rating vote_ votes like_ likes review",
    "contact address_ location_ phone",
    "note_ footnote reference citation toc_ tableofcontents",
    "wrapper wrap_ container inner_ outer_ row_ column_ col_",
    "display_none",
    "top_ above_",
    "bottom_ below_",
    "_page_ _site_ layout",
)
TEXT_WORDS = (
    "_copyright_ _copy_ all_rights_reserved alle_rechte tous_droits derechos_reservados",
    "cookie datenschutz privacy_policy terms_of impressum terms_and",
    "comment kommentar commentaire",
    "subscribe newsletter sign_up abonnieren abonnez",
    "_share_ _tweet_ facebook twitter whatsapp pinterest teilen_ partager",
    "read_more continue_reading weiterlesen mehr_lesen more_from see_also related learn_more lire_la_suite click_here",
    "log_in login_ sign_in register anmelden registrieren logged_in password",
    "_posted_ published_ _updated_ _filed_under _written_by_ veroffentlicht _am_ um_ uhr_",
    "_tags_ _category_ _categories_ schlagworte kategorie",
    "_photo_ _image_ _foto_ _bild_ getty reuters _picture_ _credit_",
    "_next_ _previous_ _prev_ _back_ zuruck _older_ _newer_ permalink trackback",
    "your_email email_address _e_mail_ required_fields _name_ _website_",
    "javascript browser_ enable_ adblock",
    "_says_ _said_ _wrote_ _reply_ antworten sagt_ schreibt_",
    "advertisement anzeige werbung sponsored",
    "_min_read minutes_ago hours_ago days_ago _ago_ _views_ _votes_",
)


@cache
def automaton(groups: tuple[str, ...]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The Aho-Corasick automaton of word groups (Aho and Corasick, 1975).

    Returns the next state by state and symbol (int32, shape (states, 27): a to z, then anything else), and for each state the
    groups of which a word ends there, as bits (int64, shape (states,)).
    """
    children: list[dict[int, int]] = [{}]
    found = [0]
    for bit, words in enumerate(groups):
        for word in words.split():
            state = 0
            for letter in word:
                symbol = OTHER if letter == "_" else ord(letter) - ord("a")
                if symbol not in children[state]:
                    children[state][symbol] = len(children)
                    children.append({})
                    found.append(0)
                state = children[state][symbol]
            found[state] |= 1 << bit
    step = np.zeros((len(children), OTHER + 1), np.int32)
    fallback = [0] * len(children)
    queue = [0]
    for state in queue:
        for symbol in range(OTHER + 1):
            child = children[state].get(symbol)
            if child is None:
                step[state, symbol] = step[fallback[state], symbol] if state else 0
                continue
            step[state, symbol] = child
            fallback[child] = int(step[fallback[state], symbol]) if state else 0
            found[child] |= found[fallback[child]]
            queue.append(child)
    return step, np.array(found, np.int64)
