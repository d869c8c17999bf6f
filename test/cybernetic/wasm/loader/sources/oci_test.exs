defmodule Cybernetic.WASM.Loader.Sources.OCITest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{OCIRegistry, Servers}

  alias Cybernetic.WASM.LoadError
  alias Cybernetic.WASM.Loader.Sources
  alias Cybernetic.WASM.Loader.Sources.OCI
  alias Cybernetic.WASM.Loader.Sources.OCI.Reference

  @module File.read!("priv/wasm/compute.wasm")
  @other "(module)"

  defp fetch(registry, reference, own \\ [], asked \\ %{}) do
    own = [plain: registry.plain, http: registry.http] ++ own
    source({:oci, "#{registry.host}/#{reference}", own}, asked)
  end

  defp source(source, asked \\ %{}) do
    source
    |> Sources.of!()
    |> Sources.fetch(
      Map.merge(
        %{
          max_size: 10_000_000,
          deadline: :infinity,
          digest: nil,
          signature: true,
          manifest: true,
          http: [],
          store: nil
        },
        asked
      )
    )
  end

  describe "a reference" do
    test "has a host, a repository, and a tag or a digest" do
      digest = digest("")

      for {text, parts} <- [
            {"example.com/a:1", {"example.com", "a", "1", nil}},
            {"Example.COM:5000/a/b-c/d__e.f:v1.2_3-x",
             {"example.com:5000", "a/b-c/d__e.f", "v1.2_3-x", nil}},
            {"localhost:1/a@#{digest}", {"localhost:1", "a", nil, digest}},
            {"[::1]:5000/a:b@#{digest}", {"[::1]:5000", "a", "b", digest}}
          ] do
        assert {:ok, reference} = Reference.parse(text)
        assert {reference.host, reference.repository, reference.tag, reference.digest} == parts
        assert Reference.parse(Reference.text(reference)) == {:ok, reference}
      end
    end

    test "that is none is refused" do
      for text <- [
            "",
            "a:1",
            "example.com/a",
            "example.com/A:1",
            "example.com/a:",
            "example.com/a@sha256:12",
            "example.com/a@sha512:" <> String.duplicate("0", 128),
            "example.com/a@" <> String.upcase(digest("")),
            "example.com/../a:1",
            "example.com//a:1",
            "example.com/a/:1",
            "example.com/a:1\n",
            "example.com/a b:1",
            "user:pass@example.com/a:1",
            "https://example.com/a:1",
            "example.com/a:1?b",
            "example.com/a:" <> String.duplicate("x", 129),
            "example.com/" <> String.duplicate("a", 600) <> ":1"
          ] do
        assert {:error, why} = Reference.parse(text)
        refute why =~ "pass"
        assert {:error, %LoadError{reason: :fetch_failed}} = source({:oci, text})
        assert OCI.describe(text) == "an OCI reference"
        # Refused for that, and not for want of a pin.
        refute OCI.mutable?(text)
      end
    end

    test "names the module by its repository, and needs a pin unless it has a digest" do
      assert OCI.name("example.com/acme/thumb:1") == "thumb"
      assert OCI.mutable?("example.com/acme/thumb:1")
      refute OCI.mutable?("example.com/acme/thumb@" <> digest(""))
      refute OCI.mutable?({"example.com/acme/thumb:1@" <> digest(""), []})
      assert OCI.remote?("example.com/acme/thumb:1")
    end
  end

  describe "a registry" do
    @describetag needed()
    @describetag :tmp_dir

    test "gives what was pushed, by tag and by digest", %{tmp_dir: folder} do
      for tls <- [false, true] do
        folder = Path.join(folder, "#{tls}")
        File.mkdir_p!(folder)
        registry = start(folder, tls: tls)
        digest = push(registry, "1.0", @module)
        assert {:ok, @module, facts} = fetch(registry, "acme/thumb@#{digest}")
        assert facts == %{digests: %{sha256: digest(@module)}}
        assert {:ok, @module, _} = fetch(registry, "acme/thumb:1.0@#{digest}")
        assert {:ok, @module, _} = fetch(registry, "acme/thumb:1.0")

        # The tag is moved, and the digest is what it was.
        push(registry, "1.0", @other)
        assert {:ok, @other, _} = fetch(registry, "acme/thumb:1.0")
        assert {:ok, @module, _} = fetch(registry, "acme/thumb:1.0@#{digest}")
      end
    end

    test "says that it has no such artifact", %{tmp_dir: folder} do
      registry = start(folder)

      for reference <- ["acme/none:1", "acme/thumb@" <> digest("none")] do
        assert {:error, %LoadError{reason: :fetch_failed, status: 404} = error} =
                 fetch(registry, reference)

        assert Exception.message(error) =~ "status 404"
      end
    end

    test "has artifacts that are no module", %{tmp_dir: folder} do
      registry = start(folder)

      for {opts, words} <- [
            {[config: "application/vnd.oci.image.config.v1+json"],
             "a config of the kind application/vnd.oci.image.config"},
            {[layers: [{"text/plain", "x"}]], "a layer of the kind text/plain"},
            {[layers: []], "0 layers"},
            {[layers: [{"application/wasm", @other}, {"application/wasm", @module}]], "2 layers"}
          ] do
        push(registry, "1", @other, opts)

        assert {:error, %LoadError{reason: :not_wasm, detail: detail}} =
                 fetch(registry, "acme/thumb:1")

        assert detail =~ words
      end
    end

    test "is not asked for more than is allowed", %{tmp_dir: folder} do
      registry = start(folder)
      digest = push(registry, "1", @module)

      assert {:error, %LoadError{reason: :too_large, size: size, allowed: 100}} =
               fetch(registry, "acme/thumb@#{digest}", [], %{max_size: 100})

      assert size == byte_size(@module)
    end

    test "may ask for a password", %{tmp_dir: folder} do
      registry = start(folder, auth: :basic)
      digest = push(registry, "1", @module)
      assert {:ok, @module, _} = fetch(registry, "acme/thumb@#{digest}", user())

      for own <- [[], [username: "alice", password: "wrong"]] do
        assert {:error, %LoadError{reason: :fetch_failed, status: 401} = error} =
                 fetch(registry, "acme/thumb@#{digest}", own)

        refute inspect(error) =~ "wrong"
      end
    end

    test "may send for a token, to which credentials go where the caller says so", %{
      tmp_dir: folder
    } do
      registry = start(folder, auth: :token)
      digest = push(registry, "1", @module)
      assert {:ok, @module, _} = fetch(registry, "acme/thumb@#{digest}")
      assert_receive {:request, "GET /token" <> _ = head}
      assert header(head, "authorization") == []

      # The realm is another origin than the registry.
      assert {:ok, @module, _} = fetch(registry, "acme/thumb@#{digest}", user())
      assert_receive {:request, "GET /token" <> _ = head}
      assert header(head, "authorization") == []

      [host] = header(head, "host")

      assert {:ok, @module, _} =
               fetch(registry, "acme/thumb@#{digest}", user() ++ [realm: "http://#{host}"])

      assert_receive {:request, "GET /token" <> _ = head}
      assert ["Basic " <> _] = header(head, "authorization")
    end
  end

  describe "somebody who answers for a registry" do
    # Answers by path; what is asked is told.
    defp registry(answers) do
      server =
        serve(fn peer, head ->
          case answers do
            %{} -> answer(peer, Map.get(answers, Path.basename(path(head)), "none"))
            function -> function.(peer, head)
          end
        end)

      %{
        host: "127.0.0.1:#{server.port}",
        plain: true,
        http: [network: server.opts[:network], timeout: 600_000]
      }
    end

    defp manifest(bytes, size \\ nil) do
      ~s({"schemaVersion":2,"config":{"mediaType":"application/vnd.wasm.config.v0+json"},) <>
        ~s("layers":[{"mediaType":"application/wasm","digest":"#{digest(bytes)}","size":#{size || byte_size(bytes)}}]})
    end

    test "serves no other manifest than that of the digest, and no other layer than that of the manifest" do
      good = manifest(@module)

      assert {:ok, @module, _} =
               fetch(registry(%{"1" => good, digest(@module) => @module}), "a:1")

      other = registry(%{digest(good) => manifest(@other), digest(@other) => @other})

      assert {:error, %LoadError{reason: :digest_mismatch, pin: :reference} = error} =
               fetch(other, "a@#{digest(good)}")

      assert {error.expected, error.found} == {digest(good), digest(manifest(@other))}

      other = registry(%{digest(good) => good, digest(@module) => @other})

      assert {:error, %LoadError{reason: :digest_mismatch, pin: :reference} = error} =
               fetch(other, "a@#{digest(good)}")

      assert {error.expected, error.found} == {digest(@module), digest(@other)}
    end

    test "does not make a layer larger than the manifest says" do
      lying = registry(%{"1" => manifest(@module, 10), digest(@module) => @module})
      assert {:error, %LoadError{reason: :too_large}} = fetch(lying, "a:1")
      lying = registry(%{"1" => manifest(@module, 9_999_999_999)})
      assert {:error, %LoadError{reason: :too_large, size: 9_999_999_999}} = fetch(lying, "a:1")
    end

    test "does not have a manifest of any size read" do
      padded = fn size -> String.pad_trailing(manifest(@module), size) end
      served = fn text -> registry(%{"1" => text, digest(@module) => @module}) end
      assert {:ok, @module, _} = fetch(served.(padded.(262_144)), "a:1")

      assert {:error, %LoadError{reason: :too_large, allowed: 262_144}} =
               fetch(served.(padded.(262_145)), "a:1")
    end

    test "gives manifests that are none" do
      for text <- [
            "",
            "{",
            "[]",
            "1",
            "{}",
            ~s({"schemaVersion":2}),
            ~s({"schemaVersion":1,"config":{}}),
            String.duplicate("[", 100_000),
            <<0xFF>>
          ] do
        assert {:error, %LoadError{reason: :not_wasm}} = fetch(registry(%{"1" => text}), "a:1")
      end

      for layer <- [
            ~s({"mediaType":"application/wasm","digest":"sha256:../../x","size":1}),
            ~s({"mediaType":"application/wasm","digest":"sha512:#{String.duplicate("0", 128)}","size":1}),
            ~s({"mediaType":"application/wasm","digest":"#{digest("")}","size":-1}),
            ~s({"mediaType":"application/wasm","digest":"#{digest("")}","size":"1"}),
            ~s({"mediaType":"application/wasm","size":1}),
            ~s("layer")
          ] do
        text =
          ~s({"schemaVersion":2,"config":{"mediaType":"application/vnd.wasm.config.v0+json"},"layers":[#{layer}]})

        assert {:error, %LoadError{reason: :not_wasm}} = fetch(registry(%{"1" => text}), "a:1")
      end
    end

    test "does not get credentials sent to a realm of its own, nor a token for more than reading" do
      thief = serve(fn peer, _ -> answer(peer, ~s({"token":"x"})) end)

      challenge =
        ~s(Bearer realm="#{thief.url}",service="s",scope="repository:b:pull,push,delete")

      registry =
        registry(fn peer, _ ->
          answer(peer, "", "401 Unauthorized", [{"www-authenticate", challenge}])
        end)

      rules = registry.http[:network] ++ ["127.0.0.1:#{thief.port}"]
      registry = put_in(registry.http[:network], rules)
      assert {:error, %LoadError{status: 401} = error} = fetch(registry, "a:1", user())
      refute inspect(error) =~ "sesame"
      assert_receive {:request, "GET /?" <> query = head}
      assert query =~ "scope=repository%3Aa%3Apull HTTP"
      assert header(head, "authorization") == []
    end

    test "names a realm that the network rules, or reason, forbid" do
      for realm <- [
            "http://169.254.169.254/",
            "https://10.0.0.1/",
            "file:///etc/passwd",
            "x",
            "http://a:b@127.0.0.1/",
            "http://127.0.0.1:1/\\"
          ] do
        registry =
          registry(fn peer, _ ->
            answer(peer, "", "401 No", [{"www-authenticate", ~s(Bearer realm="#{realm}")}])
          end)

        assert {:error, %LoadError{reason: reason}} = fetch(registry, "a:1", user())
        assert reason in [:denied, :fetch_failed]
      end

      for challenge <- [
            "",
            "Bearer",
            "Negotiate",
            ~s(Bearer service="x"),
            "Bearer " <> String.duplicate("a", 10_000)
          ] do
        registry =
          registry(fn peer, _ -> answer(peer, "", "401 No", [{"www-authenticate", challenge}]) end)

        assert {:error, %LoadError{reason: :fetch_failed, status: 401}} =
                 fetch(registry, "a:1", user())
      end
    end

    test "gives a token that is none" do
      for token <- ["", "{}", ~s({"token":""}), ~s({"token":1}), ~s({"token":"a\\r\\nx: y"})] do
        realm = serve(fn peer, _ -> answer(peer, token) end)
        challenge = ~s(Bearer realm="#{realm.url}")

        registry =
          registry(fn peer, _ -> answer(peer, "", "401 No", [{"www-authenticate", challenge}]) end)

        registry =
          put_in(registry.http[:network], registry.http[:network] ++ ["127.0.0.1:#{realm.port}"])

        assert {:error, %LoadError{reason: :fetch_failed}} = fetch(registry, "a:1")
      end
    end

    test "sends layers elsewhere, where no token goes" do
      store = serve(fn peer, _ -> answer(peer, @module) end)

      registry =
        registry(fn peer, head ->
          case {header(head, "authorization"), Path.basename(path(head))} do
            {[], _} ->
              answer(peer, "", "401 No", [{"www-authenticate", "Basic realm=\"x\""}])

            {_, "1"} ->
              answer(peer, manifest(@module))

            {_, _layer} ->
              answer(peer, "", "307 Temporary", [{"location", store.url <> "?sig=1"}])
          end
        end)

      registry =
        put_in(registry.http[:network], registry.http[:network] ++ ["127.0.0.1:#{store.port}"])

      assert {:ok, @module, _} = fetch(registry, "a:1", user())
      heads = for _ <- 1..4, do: assert_receive({:request, _head}) |> elem(1)
      assert ["GET /?sig=1" <> _ = elsewhere] = Enum.filter(heads, &(&1 =~ "sig=1"))
      assert header(elsewhere, "authorization") == []
    end
  end

  test "a registry is asked over TLS unless somebody says otherwise" do
    server = serve_tls(fn peer, _ -> answer(peer, "", "404 Not Found") end)
    source = {:oci, "127.0.0.1:#{server.port}/a:1", http: server.opts}
    assert {:error, %LoadError{reason: :fetch_failed, status: 404}} = source(source)
    assert_receive {:request, "GET /v2/a/manifests/1" <> _}
  end

  test "what is no source of this kind is the caller's mistake" do
    for source <- [
          {:oci, 1},
          {:oci, "a/b:1", [pasword: "x"]},
          {:oci, "a/b:1", %{}},
          {:oci, nil, []}
        ] do
      assert_raise ArgumentError, fn -> source(source) end
    end
  end
end
