-- A CLIP tokenizer of the words that captions of shapes use: each of them one token, everything else byte by byte. Writes vocab.json and merges.txt.
local M = {}

-- GPT-2's alphabet: bytes that print stand for themselves, the others for the letters from 256 on.
local function alphabet()
    local letters, next = {}, 256
    for byte = 0, 255 do
        local plain = byte >= 33 and byte <= 126 or byte >= 161 and byte <= 172 or byte >= 174
        letters[#letters + 1] = utf8.char(plain and byte or next)
        next = plain and next or next + 1
    end
    table.sort(letters, function(a, b) return utf8.codepoint(a) < utf8.codepoint(b) end)
    return letters
end

-- A word as the merges leave it: of all pairs of neighbors the one with the lowest rank is joined first (arXiv:1508.07909).
local function split(word, rank)
    local pieces = {}
    for i = 1, #word do pieces[i] = word:sub(i, i) .. (i == #word and "</w>" or "") end
    while true do
        local best, lowest
        for i = 1, #pieces - 1 do
            local r = rank[pieces[i] .. " " .. pieces[i + 1]]
            if r and (not lowest or r < lowest) then best, lowest = i, r end
        end
        if not best then return pieces end
        pieces[best] = pieces[best] .. table.remove(pieces, best + 1)
    end
end

-- words: a list; → how many tokens there are. Writes into a folder that is there.
function M.write(folder, words)
    local tokens, known, merges, rank = {}, {}, {}, {}
    local function add(token)
        if not known[token] then known[token], tokens[#tokens + 1] = #tokens, token end
    end
    for _, letter in ipairs(alphabet()) do add(letter) end
    for _, letter in ipairs(alphabet()) do add(letter .. "</w>") end
    for _, word in ipairs(words) do
        local pieces = split(word, rank)
        for i = 2, #pieces do       -- what earlier words' merges leave of it is joined from the left
            merges[#merges + 1] = pieces[1] .. " " .. pieces[i]
            rank[merges[#merges]] = #merges
            pieces[1] = pieces[1] .. pieces[i]
            add(pieces[1])
        end
    end
    add "<|startoftext|>"
    add "<|endoftext|>"
    local quoted = {}
    for i, token in ipairs(tokens) do quoted[i] = ('"%s": %d'):format(token:gsub('["\\]', "\\%0"), i - 1) end
    local function save(name, text)
        local file = assert(io.open(folder .. "/" .. name, "w"))
        assert(file:write(text))
        assert(file:close())
    end
    save("vocab.json", "{" .. table.concat(quoted, ", ") .. "}\n")
    save("merges.txt", "#version: 0.2\n" .. table.concat(merges, "\n") .. "\n")
    return #tokens
end

return M
