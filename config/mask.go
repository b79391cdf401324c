package config

import (
	"bytes"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// minMask is the shortest secret that is masked wherever it is seen; shorter
// ones are refused as secrets and would blot out the text around them.
const minMask = 4

// maskText replaces the secrets in s.
func maskText(s string, secrets []string) string {
	for _, secret := range secrets {
		if len(secret) >= minMask {
			s = strings.ReplaceAll(s, secret, redacted)
		}
	}
	return s
}

// maskSource returns a copy of src, of the same length, in which asterisks stand
// for what follows the name secret up to the end of the expression, and for the known
// secrets. It works on tokens, so that it holds for a file that does not parse;
// the first arguments of file() and env() stay readable.
func maskSource(src []byte, name string, secrets []string) []byte {
	out := bytes.Clone(src)
	for _, secret := range secrets {
		if len(secret) < minMask {
			continue
		}
		for i := 0; ; {
			n := bytes.Index(out[i:], []byte(secret))
			if n < 0 {
				break
			}
			blot(out[i+n : i+n+len(secret)])
			i += n + len(secret)
		}
	}
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	for i := 0; i+1 < len(tokens); i++ {
		afterDot := i > 0 && tokens[i-1].Type == hclsyntax.TokenDot
		if tokens[i].Type == hclsyntax.TokenIdent && !afterDot && secretName(string(tokens[i].Bytes)) {
			i = maskExpression(out, tokens, i+1)
		}
	}
	return out
}

// secretName reports whether an argument of that name may hold a secret, with a
// slip of the pen or under the name that other programs have for it.
func secretName(name string) bool {
	low := strings.ToLower(name)
	return strings.Contains(low, "secret") || strings.Contains(low, "passw") || levenshtein.Distance(low, "secret", nil) < 3
}

// maskExpression blots the literals from token i to the end of the line outside
// brackets, and returns the index of the last token seen.
func maskExpression(out []byte, tokens hclsyntax.Tokens, i int) int {
	depth := 0
	for ; i < len(tokens); i++ {
		t := tokens[i]
		switch t.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenEOF, hclsyntax.TokenCBrace:
			if depth <= 0 {
				return i
			}
		case hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOHeredoc:
			depth++
		case hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCHeredoc:
			depth--
		case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
			if !namesSource(tokens, i) {
				blot(out[t.Range.Start.Byte:t.Range.End.Byte])
			}
		case hclsyntax.TokenNumberLit, hclsyntax.TokenInvalid, hclsyntax.TokenBadUTF8:
			blot(out[t.Range.Start.Byte:t.Range.End.Byte])
		}
	}
	return i
}

// namesSource reports whether the literal at i is the first argument of file or
// env: file ( " literal.
func namesSource(tokens hclsyntax.Tokens, i int) bool {
	return i >= 3 &&
		tokens[i-1].Type == hclsyntax.TokenOQuote &&
		tokens[i-2].Type == hclsyntax.TokenOParen &&
		(isIdent(tokens[i-3], "file") || isIdent(tokens[i-3], "env"))
}

func isIdent(t hclsyntax.Token, name string) bool {
	return t.Type == hclsyntax.TokenIdent && string(t.Bytes) == name
}

// blot overwrites everything but line ends, so that positions stay valid.
func blot(b []byte) {
	for i := range b {
		if b[i] != '\n' && b[i] != '\r' {
			b[i] = '*'
		}
	}
}
