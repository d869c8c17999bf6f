defmodule Cybernetic.WASM.HTTP.URLTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.HTTP.URL

  defp parse!(text) do
    assert {:ok, url} = URL.parse(text)
    url
  end

  test "has one spelling" do
    for {text, spelled} <- [
          {"https://Example.COM", "https://example.com/"},
          {"https://example.com.:443/", "https://example.com/"},
          {"http://example.com:80?q", "http://example.com/?q"},
          {"https://example.com:80/a//b/../c", "https://example.com:80/a//b/../c"},
          {"https://[2001:DB8:0::1]/x#part", "https://[2001:db8::1]/x"},
          {"https://[::1]:8443/", "https://[::1]:8443/"},
          {"http://127.0.0.1/%2e%2E", "http://127.0.0.1/%2e%2E"},
          {"HTTPS://example.com/", "https://example.com/"}
        ],
        do: assert({text, URL.text(parse!(text))} == {text, spelled})
  end

  test "that is none is refused" do
    for text <- [
          "",
          "example.com",
          "/path",
          "//example.com/",
          "ftp://example.com/",
          "https:",
          "https://",
          "https:///path",
          "https:example.com",
          "https://:443/",
          "https://example.com:0/",
          "https://example.com:65536/",
          "https://example.com:x/",
          "https://example.com:-1/",
          "https://user@example.com/",
          "https://user:secret@example.com/",
          "https://exa mple.com/",
          "https://example.com/a b",
          "https://example.com/\r\nhost: other",
          "https://example.com/\n",
          "https://example.com/\0",
          "https://example.com/\tx",
          "https://exämple.com/",
          "https://example.com/ä",
          "https://ex%61mple.com/",
          "https://example.com\\@other/",
          "https://[::1/",
          "https://[fe80::1%25eth0]/",
          "https://[::1]x/",
          "https://exam$ple.com/",
          "https://example.com/" <> String.duplicate("x", 8_000),
          nil,
          1,
          'https://example.com/'
        ] do
      assert {:error, why} = URL.parse(text)
      refute why =~ "secret"
    end
  end

  test "is shown without its query" do
    assert URL.shown(parse!("https://example.com/x?token=secret")) == "https://example.com/x?…"
    assert URL.shown(parse!("https://example.com/")) == "https://example.com/"
    long = parse!("https://example.com/" <> String.duplicate("x", 5_000))
    assert byte_size(URL.shown(long)) < 250
  end

  test "has an origin, which is scheme, host and port" do
    origin = &URL.origin(parse!(&1))
    assert origin.("https://example.com") == origin.("https://EXAMPLE.com.:443/x?y")

    others = [
      "http://example.com:443",
      "https://example.com:444",
      "https://www.example.com",
      "https://example.com.evil"
    ]

    for other <- others, do: assert(origin.(other) != origin.("https://example.com"))
  end

  test "has one spelling to be compared by" do
    key = &URL.key(parse!(&1))

    for {one, other} <- [
          {"HTTPS://EXAMPLE.com.:443/a/./b/../x", "https://example.com/a/x"},
          {"https://example.com", "https://example.com/"},
          {"https://example.com/../../x", "https://example.com/x"},
          {"https://example.com/a/.", "https://example.com/a/"},
          {"https://example.com/a/b/..", "https://example.com/a/"},
          {"https://example.com/%7euser/%2e%2E/%78", "https://example.com/x"},
          {"https://example.com/%c3%a9", "https://example.com/%C3%A9"},
          {"https://example.com/x?a=/../%78", "https://example.com/x?a=/../%78"}
        ],
        do: assert({one, key.(one)} == {one, other})

    for {one, other} <- [
          {"https://example.com/a%2Fx", "https://example.com/a/x"},
          {"https://example.com//x", "https://example.com/x"},
          {"https://example.com/x/", "https://example.com/x"},
          {"https://example.com/x?", "https://example.com/x?a"},
          {"https://example.com/x?a", "https://example.com/x?A"}
        ],
        do: assert(key.(one) != key.(other))
  end

  test "is joined with what a server says" do
    base = parse!("https://example.com:8443/a/b?c")

    for {location, joined} <- [
          {"/x", "https://example.com:8443/x"},
          {"x?y", "https://example.com:8443/a/x?y"},
          {"../../../x", "https://example.com:8443/x"},
          {"//other.example/x", "https://other.example/x"},
          {"http://other.example", "http://other.example/"},
          {"?d", "https://example.com:8443/a/b?d"},
          {"", "https://example.com:8443/a/b?c"}
        ] do
      assert {:ok, url} = URL.join(base, location)
      assert {location, URL.text(url)} == {location, joined}
    end

    for location <- [
          "a b",
          "http://",
          "mailto:x",
          "https://u:p@example.com/",
          "/\r\n",
          "http://[::1",
          String.duplicate("x", 9_000)
        ],
        do: assert({:error, _} = URL.join(base, location))
  end
end
