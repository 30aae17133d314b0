/* tokenizer.json: what each step and each flag of an added token does, and what is refused with which words. Expected ids
 * of the steps are those of the tokenizers library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "text/tokenizer.h"

/* The JSON of the cases is written with ' for ". */
static ern_tokenizer *open_text(const char *quoted, ern_err *e) {
    char path[64], *json = strdup(quoted);
    assert_non_null(json);
    for (char *q = json; (q = strchr(q, '\'')) != NULL;) *q = '"';
    snprintf(path, sizeof path, "/tmp/tokenizer_json_test.%ld.json", (long)getpid());
    assert_true(file_write(path, json, strlen(json), NULL));
    ern_tokenizer *t = tokenizer_open(path, e);
    unlink(path);
    free(json);
    return t;
}

static void ids_text(const ern_tokenizer *t, const char *text, unsigned flags, char *out, size_t size) {
    ern_ids ids = { 0 };
    ern_err e = { 0 };
    size_t n = 0;
    if (!tokenizer_encode(t, text, strlen(text), flags, &ids, &e)) fail_msg("\"%s\": %s", text, e.text);
    out[0] = '\0';
    for (size_t i = 0; i < ids.n && n + 12 < size; i++) n += (size_t)snprintf(out + n, size - n, "%s%d", i ? " "
            : "", (int)ids.id[i]);
    ids_deinit(&ids);
}

static void check(const char *json, const char *text, unsigned flags, const char *want) {
    char got[512];
    ern_err e = { 0 };
    ern_tokenizer *t = open_text(json, &e);
    if (!t) fail_msg("%s\n%s", json, e.text);
    ids_text(t, text, flags, got, sizeof got);
    if (strcmp(got, want) != 0) fail_msg("%s\n\"%s\" gives %s, %s wanted", json, text, got, want);
    tokenizer_close(t);
}

/* ---- steps ------------------------------------------------------------------------------------ */

/* Letters by themselves: the ids show where the text was cut, because "ab" merges only inside a piece. */
#define VOCAB "'vocab':{'a':0,'b':1,'ab':2,'1':3,'2':4,'12':5,' ':6,',':7,'\xE2\x96\x81':8," \
    "'\xE2\x96\x81" "a':9,'?':10,'e':11,'\xC3\xA9':12,'\xCC\x81':13,'A':14,' a':15}"
#define MODEL "'model':{'type':'BPE','unk_token':'?'," VOCAB ",'merges':['a b',['1','2'],'\xE2\x96\x81 a',[' ','a']]}"

typedef struct { const char *part, *text, *ids; } step_case;

static const step_case steps[] = {
    { "'normalizer':null", "ab 12", "2 6 5" },
    { "'normalizer':{'type':'Prepend','prepend':'\xE2\x96\x81'}", "ab a", "8 2 15" },
    { "'normalizer':{'type':'Replace','pattern':{'String':' '},'content':'\xE2\x96\x81'}", "b a", "1 9" },
    { "'normalizer':{'type':'Replace','pattern':{'Regex':'[0-9]+'},'content':'a'}", "b12b2", "1 2 0" },
    { "'normalizer':{'type':'Strip','strip_left':true,'strip_right':false}", " b ", "1 6" },
    { "'normalizer':{'type':'NFC'}", "e\xCC\x81", "12" },
    { "'normalizer':{'type':'NFD'}", "\xC3\xA9", "11 13" },
    { "'normalizer':{'type':'NFKC'}", "\xEF\xBC\x91", "3" },
    { "'normalizer':{'type':'NFKD'}", "\xEF\xBD\x81\xC3\xA9", "0 11 13" },
    { "'normalizer':{'type':'Sequence','normalizers':[{'type':'NFD'},{'type':'StripAccents'},{'type':'Lowercase'}]}",
          "\xC3\x89" "AB", "11 2" },
    { "'pre_tokenizer':{'type':'Digits','individual_digits':true}", "ab12", "2 3 4" },
    { "'pre_tokenizer':{'type':'Digits','individual_digits':false}", "ab12", "2 5" },
    { "'pre_tokenizer':{'type':'Whitespace'}", "ab, ab", "2 7 2" },
    { "'pre_tokenizer':{'type':'WhitespaceSplit'}", "a b ab", "0 1 2" },
    { "'pre_tokenizer':{'type':'Punctuation','behavior':'Removed'}", "a,b", "0 1" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'String':'a'},'behavior':'Isolated','invert':false}",
      "ab", "0 1" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'a'},'behavior':'MergedWithPrevious','invert':false}", "bab",
          "1 0 1" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'a'},'behavior':'MergedWithNext','invert':false}", "bab", "1 2" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'[12]'},'behavior':'Contiguous','invert':false}", "12", "5" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'[ab]+'},'behavior':'Removed','invert':true}",
      "ab12", "2" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'[x[b]]'},'behavior':'Isolated','invert':false}", "ab", "0 1" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'(?=2)'},'behavior':'Isolated','invert':false}", "12", "3 4" },
    { "'pre_tokenizer':{'type':'CharDelimiterSplit','delimiter':','}", "a,b", "0 1" },
    { "'pre_tokenizer':{'type':'BertPreTokenizer'}", "a ,b", "0 7 1" },
    { "'pre_tokenizer':{'type':'Metaspace','replacement':'\xE2\x96\x81','prepend_scheme':'always'}", "a b",
      "9 8 1" },
    { "'pre_tokenizer':{'type':'Metaspace','replacement':'\xE2\x96\x81','prepend_scheme':'never'}", "a a",
      "0 9" },
    { "'pre_tokenizer':{'type':'Sequence','pretokenizers':[{'type':'WhitespaceSplit'},{'type':'Digits',"
          "'individual_digits':true}]}", "12 ab", "3 4 2" },
};

static void test_steps(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        char json[2048];
        snprintf(json, sizeof json, "{%s," MODEL "}", steps[i].part);
        check(json, steps[i].text, TOKENIZER_SPECIALS, steps[i].ids);
    }
}

/* ---- added tokens ----------------------------------------------------------------------------- */

#define ADDED(flags) "{'added_tokens':[{'id':20,'content':'<x>'," flags "}]," MODEL "}"

static void test_added(void **state) {
    (void)state;
    check(ADDED("'special':true"), "a<x>b", TOKENIZER_SPECIALS, "0 20 1");
    check(ADDED("'special':true"), "a<x>b", TOKENIZER_PLAIN, "0 10 10 10 1");
    check(ADDED("'special':false"), "a<x>b", TOKENIZER_PLAIN, "0 20 1");
    check(ADDED("'special':false"), "a<x>b", TOKENIZER_LITERAL, "0 20 1");
    check(ADDED("'lstrip':true"), "b <x> b", TOKENIZER_SPECIALS, "1 20 6 1");
    check(ADDED("'rstrip':true"), "b <x> b", TOKENIZER_SPECIALS, "1 6 20 1");
    check(ADDED("'single_word':true"), "b<x> b <x> b", TOKENIZER_SPECIALS, "1 10 10 10 6 1 6 20 6 1");
    check("{'added_tokens':[{'id':20,'content':'a1'},{'id':21,'content':'a12'},{'id':22,'content':'2b'}]," MODEL "}",
          "a12b2b", TOKENIZER_SPECIALS, "21 1 22");
    check("{'normalizer':{'type':'Lowercase'},'added_tokens':[{'id':20,'content':'AB','normalized':true}]," MODEL "}",
          "aB", TOKENIZER_SPECIALS, "20");
    check("{'normalizer':{'type':'Lowercase'},'added_tokens':[{'id':20,'content':'AB','normalized':false}]," MODEL "}",
          "aB", TOKENIZER_SPECIALS, "2");
}

/* ---- models ----------------------------------------------------------------------------------- */

static void test_models(void **state) {
    (void)state;
    /* without ignore_merges the word "bb" is not reachable; unknown characters fuse when the file says so */
    check("{'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':false},'model':{'type':'BPE','vocab':{'b':0,"
          "'bb':1},'merges':[]}}", "bb", 0, "0 0");
    check("{'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':false},'model':{'type':'BPE','ignore_merges':true,"
          "'vocab':{'b':0,'bb':1},'merges':[]}}", "bb", 0, "1");
    check("{'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':true},'model':{'type':'BPE','vocab':{'b':0,"
          "'\xC4\xA0':1},'merges':[]}}", "b", 0, "1 0");
    check("{'model':{'type':'BPE','unk_token':'?','fuse_unk':true,'vocab':{'a':0,'?':1},'merges':[]}}",
          "axya", 0, "0 1 0");
    check("{'model':{'type':'BPE','unk_token':'?','fuse_unk':false,'vocab':{'a':0,'?':1},'merges':[]}}", "axya",
          0, "0 1 1 0");
    check("{'model':{'type':'BPE','byte_fallback':true,'vocab':{'a':0,'<0xC3>':1,'<0xA9>':2},'merges':[]}}",
          "a\xC3\xA9", 0, "0 1 2");
    check("{'pre_tokenizer':{'type':'WhitespaceSplit'},'model':{'type':'WordPiece','unk_token':'U',"
          "'continuing_subword_prefix':'@','max_input_chars_per_word':4,'vocab':{'U':0,'a':1,'@a':2,'@ab':3}}}",
          "aab aaaaa ab b", 0, "1 3 0 0 0");
}

/* The character classes are those of the tokenizers library, Unicode 8.0. */
static void test_bert_classes(void **state) {
    (void)state;
    static const struct { const char *text, *ids; } cases[] = {
        { "a\xCC\x81" "b", "1" }, { "\xC3\x81" "B", "1" }, { "a,b", "2 5 3" },
        { "a\xC2\xAD" "b", "1" }, { "a\xEF\xBF\xBD" "b", "1" },
        { "a\xC2\xA0" "b", "2 3" }, { "a\xE4\xB8\xAD" "b", "2 4 3" }, { "a\xE3\x80\x82" "b", "2 6 3" }, { "a_b", "2 0 3" },
        { "a\xE1\x99\xAD" "b", "2 7 3" },                /* U+166D, punctuation then */
        { "a\xE1\x9C\xB4" "b", "1" },                   /* U+1734, a mark then */
        { "a\xE1\xA2\x85" "b", "0" },                   /* U+1885, a letter then */
        { "a\xE1\xAA\xB0" "b", "1" }, { "a\xF0\x91\xA5\x84" "b", "0" },       /* a mark of 7.0; U+11944 of 13.0 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check("{'normalizer':{'type':'BertNormalizer','lowercase':true},'pre_tokenizer':{'type':'BertPreTokenizer'},"
              "'model':{'type':'WordPiece','unk_token':'U','vocab':{'U':0,'ab':1,'a':2,'b':3,'\xE4\xB8\xAD':4,',':5,"
              "'\xE3\x80\x82':6,'\xE1\x99\xAD':7}}}",
              cases[i].text, 0, cases[i].ids);
}

#define POST_MODEL "'model':{'type':'BPE','vocab':{'a':0,'<s>':1,'</s>':2},'merges':[]}"

static void test_edges(void **state) {
    (void)state;
    check("{'post_processor':{'type':'BertProcessing','sep':['</s>',2],'cls':['<s>',1]}," POST_MODEL "}",
          "a", TOKENIZER_ADD, "1 0 2");
    check("{'post_processor':{'type':'RobertaProcessing','sep':['</s>',2],'cls':['<s>',1]}," POST_MODEL "}",
          "", TOKENIZER_ADD, "1 2");
    check("{'post_processor':{'type':'BertProcessing','sep':['</s>',2],'cls':['<s>',1]}," POST_MODEL "}",
          "a", 0, "0");
    check("{'post_processor':{'type':'Sequence','processors':[{'type':'ByteLevel'},{'type':'TemplateProcessing',"
          "'single':[{'SpecialToken':{'id':'B','type_id':0}},{'Sequence':{'id':'A','type_id':0}}],"
          "'special_tokens':{'B':{'id':'B','ids':[1],'tokens':['<s>']}}}]}," POST_MODEL "}", "a",
              TOKENIZER_ADD, "1 0");
}

/* ---- what a GGUF vocabulary loses ------------------------------------------------------------- */

static void check_lost(const char *json, const char *want) {
    ern_err e = { 0 };
    ern_tokenizer *t = open_text(json, &e);
    if (!t) fail_msg("%s\n%s", json, e.text);
    const char *lost = tokenizer_lost_in_vocab(t);
    if ((lost == NULL) != (want == NULL) || (lost && !strstr(lost, want))) fail_msg("%s\nloses %s",
          json, lost ? lost : "nothing");
    tokenizer_close(t);
}

#define BYTES "'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':false}," MODEL
#define MARKS "'normalizer':{'type':'Replace','pattern':{'String':' '},'content':'\xE2\x96\x81'}," MODEL

static void test_lost(void **state) {
    (void)state;
    check_lost("{" BYTES "}", NULL);
    check_lost("{'normalizer':{'type':'NFC'}," BYTES "}", "normalizer");
    check_lost("{'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':true}," MODEL "}", "pre-tokenizer");
    check_lost("{" MARKS "}", NULL);
    check_lost("{" MODEL "}", "spaces");
    check_lost("{'pre_tokenizer':{'type':'Whitespace'}," MODEL "}", "pre-tokenizer");
    check_lost("{'added_tokens':[{'id':20,'content':'<x>','lstrip':true}]," MARKS "}", "spaces around");
    check_lost("{'normalizer':{'type':'BertNormalizer'},'pre_tokenizer':{'type':'BertPreTokenizer'},"
               "'model':{'type':'WordPiece','unk_token':'U','vocab':{'U':0}}}", NULL);
    check_lost("{'model':{'type':'WordPiece','unk_token':'U','vocab':{'U':0}}}", "normalizer");
}

/* ---- refusals --------------------------------------------------------------------------------- */

typedef struct { const char *json; enum ern_code code; const char *words; } refusal;

static const refusal refusals[] = {
    { "", ERN_FORMAT, "line 1" },
    { "{\n  'model': }", ERN_FORMAT, "line 2, column 12" },
    { "[]", ERN_FORMAT, "no JSON object" },
    { "{}", ERN_FORMAT, "no model" },
    { "{'model':{'type':'Unigram','vocab':[]}}", ERN_MISSING, "Unigram" },
    { "{'model':{'vocab':[['a',0.5]]}}", ERN_MISSING, "Unigram" },
    { "{'normalizer':{'type':'Precompiled','precompiled_charsmap':''}}", ERN_MISSING, "Precompiled" },
    { "{'normalizer':{}}", ERN_FORMAT, "normalizer without type" },
    { "{'pre_tokenizer':{'type':'UnicodeScripts'}}", ERN_MISSING, "UnicodeScripts" },
    { "{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'('},'behavior':'Isolated'}}", ERN_FORMAT,
      "regex \"(\"" },
    { "{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'[a&&b]'},'behavior':'Isolated'}}", ERN_MISSING,
      "set operation" },
    { "{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'[a[^b]]'},'behavior':'Isolated'}}",
      ERN_MISSING, "negated class" },
    { "{'pre_tokenizer':{'type':'Split','pattern':{'String':'a'},'behavior':'Eaten'}}", ERN_MISSING,
      "Eaten" },
    { "{'decoder':{'type':'CTC'}}", ERN_MISSING, "CTC" },
    { "{'model':{'type':'BPE','vocab':{'a':0,'b':0},'merges':[]}}", ERN_FORMAT, "id 0 is given to" },
    { "{'model':{'type':'BPE','vocab':{'a':0,'a':1},'merges':[]}}", ERN_FORMAT, "duplicate" },
    { "{'model':{'type':'BPE','vocab':{'a':-1},'merges':[]}}", ERN_FORMAT, "the id of \"a\"" },
    { "{'model':{'type':'BPE','vocab':{'a':99999999},'merges':[]}}", ERN_FORMAT, "the id of \"a\"" },
    { "{'model':{'type':'BPE','vocab':{'a':0.5},'merges':[]}}", ERN_FORMAT, "the id of \"a\"" },
    { "{'model':{'type':'BPE','vocab':{'a':0},'merges':['a b']}}", ERN_FORMAT, "merge 0, \"a\" and \"b\"" },
    { "{'model':{'type':'BPE','vocab':{'a':0},'merges':['ab']}}", ERN_FORMAT, "merge 0 is not two pieces" },
    { "{'model':{'type':'BPE','vocab':{'a':0},'merges':[['a']]}}", ERN_FORMAT, "merge 0 is not two pieces" },
    { "{'model':{'type':'BPE','vocab':{'a':0}}}", ERN_FORMAT, "model.merges" },
    { "{'model':{'type':'BPE','vocab':{},'merges':[]}}", ERN_FORMAT, "empty" },
    { "{'model':{'type':'BPE','end_of_word_suffix':'</w>','vocab':{'a':0},'merges':[]}}", ERN_MISSING,
      "end_of_word_suffix" },
    { "{'model':{'type':'WordPiece','unk_token':'[UNK]','vocab':{'a':0}}}", ERN_FORMAT, "unk_token" },
    { "{'model':{'type':'WordPiece','unk_token':'a','max_input_chars_per_word':1000000,'vocab':{'a':0}}}",
      ERN_LIMIT, "1000000" },
    { "{'added_tokens':[{'id':-5,'content':'x'}]," MODEL "}", ERN_FORMAT, "added token" },
    { "{'added_tokens':[{'id':5}]," MODEL "}", ERN_FORMAT, "added token" },
    { "{'post_processor':{'type':'BertProcessing','sep':['',99],'cls':['',0]}," MODEL "}", ERN_FORMAT,
      "id 99" },
    { "{'post_processor':{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'Z'}}],"
          "'special_tokens':{}}," MODEL "}", ERN_FORMAT, "\"Z\"" },
};

static void test_refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        ern_err e = { 0 };
        ern_tokenizer *t = open_text(refusals[i].json, &e);
        if (t || e.code != refusals[i].code || !strstr(e.text, refusals[i].words))
            fail_msg("%s\nopened %d, code %d: %s\nwanted %d with \"%s\"", refusals[i].json, t != NULL, (int)e.code, e.text,
                     (int)refusals[i].code, refusals[i].words);
    }
}

static void test_nesting(void **state) {
    (void)state;
    ern_buf b = { 0 };
    ern_err e = { 0 };
    assert_true(buf_str(&b, "{'normalizer':", NULL));
    for (int i = 0; i < 40; i++) assert_true(buf_str(&b, "{'type':'Sequence','normalizers':[", NULL));
    for (int i = 0; i < 40; i++) assert_true(buf_str(&b, "]}", NULL));
    assert_true(buf_str(&b, "," MODEL "}", NULL));
    assert_null(open_text(b.data, &e));
    assert_int_equal(e.code, ERN_LIMIT);
    assert_non_null(strstr(e.text, "nested"));
    buf_deinit(&b);
}

/* An expression that would try for ever ends in an error. */
static void test_endless_regex(void **state) {
    (void)state;
    ern_err e = { 0 };
    ern_ids ids = { 0 };
    ern_tokenizer *t = open_text("{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'(?:a|aa)+[xyz]'},"
          "'behavior':'Isolated'}," MODEL "}", &e);
    if (!t) fail_msg("%s", e.text);
    assert_false(tokenizer_encode(t, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 61, 0, &ids, &e));
    assert_int_equal(e.code, ERN_LIMIT);
    assert_int_equal(ids.n, 0);
    ids_deinit(&ids);
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps), cmocka_unit_test(test_added), cmocka_unit_test(test_models),
            cmocka_unit_test(test_edges), cmocka_unit_test(test_bert_classes), cmocka_unit_test(test_lost),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_nesting), cmocka_unit_test(test_endless_regex),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
