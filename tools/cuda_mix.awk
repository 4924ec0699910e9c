# Counts the instructions of every kernel by class: reads what `nvdisasm -c -ndf` prints of a cubin
# and writes a line per kernel, names first with -v header=1. tools/cuda_mix.sh runs it and has the
# rules.
#   awk -v file=STEM -v arch=sm_90 -f tools/cuda_mix.awk
# The hot loop of a kernel is one of its innermost loops: from the target of a backward branch to
# the branch, with no other such pair and no way out in between. Loops that work on shared memory
# alone come first, then those with most and densest fp32 arithmetic (its count times its share
# squared). What the compiler calls, such as the slow ends of divisions, counts as the kernel's; NOP
# does not.

BEGIN {
  columns = "total fp32 fp64 mufu int ldg ldg64 ldg128 stg stg128 lds lds128 sts sts128"
  columns = columns " local atom bar shfl mma async branch slow call foreign other loop loop_fp32"
  columns = columns " loop_lds loop_lds128 loop_ldg loop_fp64 loop_slow loop_call"
  wanted = split(columns, column, " ")
  if (header) {
    print "file arch " columns " kernel"
    exit
  }
}

# the class of an instruction, from its name with modifiers
function class_of(op,    base) {
  base = op
  sub(/[.].*/, "", base)
  sub(/^U/, "", base) # the uniform datapath does the same work
  if (base ~ /^(FFMA2?|FADD2?|FMUL2?|FMNMX3?|FSEL|FSETP?|FCHK)$/) return "fp32"
  if (base ~ /^(DFMA|DADD|DMUL|DSETP|DMNMX)$/) return "fp64"
  if (base == "MUFU") return "mufu"
  # HFMA2.MMA is no matrix instruction but a constant on its way into a register
  if (base ~ /^(HMMA|IMMA|DMMA|BMMA|QMMA|OMMA|HGMMA|IGMMA|QGMMA|BGMMA|WGMMA)$/ ||
      op ~ /^UTC[A-Z0-9]*MMA/) return "mma"
  if (op ~ /^(LDGSTS|LDGDEPBAR|UBLK(CP|RED|PF)|UTMA(LDG|STG|REDG|PF))/) return "async"
  if (base ~ /^(LDL|STL)$/) return "local"
  if (base ~ /^(LDG|LD)$/) return "ldg"
  if (base ~ /^(STG|ST)$/) return "stg"
  if (base ~ /^(LDS|LDSM)$/) return "lds"
  if (base ~ /^(STS|STSM)$/) return "sts"
  if (base ~ /^(ATOM|ATOMG|ATOMS|RED|REDG|REDAS)$/) return "atom"
  if (base ~ /^(BAR|WARPSYNC|SYNCS|ENDCOLLECTIVE)$/ || op ~ /^UCGABAR/) return "bar"
  if (base ~ /^(SHFL|VOTE|MATCH|REDUX|CREDUX)$/) return "shfl"
  if (base ~ /^(BRA|BRX|BRXU|JMP|JMX|BSSY|BSYNC|BREAK|EXIT|RET|YIELD|NANOSLEEP)$/) return "branch"
  if (base == "CALL") return "call"
  if (base ~ /^(IMAD|IADD|IADD3|ISETP|LEA|LOP3|SHF|VIADD|VIADDMNMX|IMNMX|VIMNMX|VIMNMX3|SEL)$/ ||
      base ~ /^(IABS|POPC|FLO|BREV|PRMT|BMSK|SGXT|PLOP3|IDP|SHL|SHR|LOP)$/) return "int"
  return "other"
}

function add(name, in_hot) {
  count[name]++
  if (in_hot && ("loop_" name) in known) count["loop_" name]++
}

# the loops of the kernel that was read, then its line
function finish(    i, j, k, best, score, hot_from, hot_to, inner, fp32, size, reads, global, c) {
  if (kernel == "") return
  for (i = 1; i <= wanted; i++) {
    known[column[i]] = 1
    count[column[i]] = 0
  }
  # backward branches of the kernel itself; what follows the first helper belongs to helpers
  loops = 0
  for (i = 0; i < body; i++) {
    if (op[i] ~ /^(BRA|JMP)/ && goal[i] in label && label[goal[i]] <= i) {
      loops++
      loop_from[loops] = label[goal[i]]
      loop_to[loops] = i
    }
  }
  best = -1
  hot_from = 0
  hot_to = -1
  for (j = 1; j <= loops; j++) {
    inner = 1
    for (k = 1; k <= loops && inner; k++) {
      if (k != j && loop_from[k] >= loop_from[j] && loop_to[k] <= loop_to[j] &&
          loop_to[k] - loop_from[k] < loop_to[j] - loop_from[j]) inner = 0
    }
    fp32 = reads = global = 0
    for (i = loop_from[j]; i <= loop_to[j] && inner; i++) {
      if (class[i] == "lds") reads = 1
      if (class[i] ~ /^(ldg|stg)$/) global = 1
      if (class[i] == "fp32") fp32++
      if (op[i] ~ /^(EXIT|RET)/ && guard[i] == "") inner = 0
    }
    size = loop_to[j] - loop_from[j] + 1
    score = fp32 * fp32 * fp32 / size / size + (fp32 && reads && !global ? 1e6 : 0)
    if (inner && score > best) {
      best = score
      hot_from = loop_from[j]
      hot_to = loop_to[j]
    }
  }
  for (i = 0; i < instructions; i++) {
    c = class[i]
    j = i >= hot_from && i <= hot_to
    count["total"]++
    if (j) count["loop"]++
    if (c == "call") {
      # slow: the rare end of a division or root, behind a test; foreign: not the compiler's own;
      # a call of a label in the kernel is a jump by which sm_80 leaves a loop
      if (goal[i] ~ /slowpath/) c = "slow"
      else if (goal[i] ~ /^[.]L_/) c = "branch"
      else if (goal[i] !~ /__cuda_sm[0-9]/) add("foreign", 0)
    }
    add(c, j)
    if (c ~ /^(ldg|stg|lds|sts)$/ && op[i] ~ /[.]128/) add(c "128", j)
    if (c == "ldg" && op[i] ~ /[.]64/) add("ldg64", j)
  }
  line = file " " arch
  for (i = 1; i <= wanted; i++) line = line " " count[column[i]]
  print line " " kernel
}

/^[ \t]*[.]section[ \t]/ {
  finish()
  kernel = ""
  if ($2 ~ /^[.]text[.]/) {
    kernel = $2
    sub(/^[.]text[.]/, "", kernel)
    sub(/,.*/, "", kernel)
    instructions = body = 0
    helper = 0
    split("", label)
  }
  next
}
kernel == "" { next }
/^[.$_A-Za-z][^ \t]*:/ {
  name = $1
  sub(/:.*/, "", name)
  label[name] = instructions
  if (name ~ /^[$]/) helper = 1
  next
}
/^[ \t]*\/[*][0-9a-f]+[*]\// {
  text = $0
  sub(/^[ \t]*\/[*][0-9a-f]+[*]\/[ \t{]*/, "", text)
  rule = ""
  if (text ~ /^@/) {
    rule = text
    sub(/[ \t].*/, "", rule)
    sub(/^[^ \t]+[ \t]+/, "", text)
  }
  name = text
  sub(/[ \t;].*/, "", name)
  if (name == "NOP") next # padding
  op[instructions] = name
  guard[instructions] = rule
  class[instructions] = class_of(name)
  goal[instructions] = ""
  if (match(text, /`\([^)]*\)/)) goal[instructions] = substr(text, RSTART + 2, RLENGTH - 3)
  instructions++
  if (!helper) body = instructions
}
END { if (!header) finish() }
