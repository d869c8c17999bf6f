defmodule Cybernetic.WASM.OCIRegistry do
  @moduledoc false
  # Debian's `docker-registry`, on the loopback interface: the one that people run. `bin/setup test` puts it into `target/registry`.

  import Cybernetic.WASM.Servers, only: [serve: 1, answer: 2, path: 1, header: 2]

  alias Cybernetic.WASM.HTTP.Client
  alias Cybernetic.WASM.Servers.Certificates

  @unpacked "target/registry/usr/bin/docker-registry"
  @config "application/vnd.wasm.config.v0+json"
  @kind "application/vnd.oci.image.manifest.v1+json"

  @user "alice"
  @password "open sesame"
  # Of the password, by bcrypt.
  @hash "$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW"

  @doc "The tags of tests that need it: skipped, and a word why, where it is missing."
  def needed do
    if program() do
      [docker_registry: true]
    else
      why = "there is no docker-registry, which bin/setup test installs on Debian"
      # ExUnit does not tell the reason.
      IO.puts("Tests are skipped: #{why}")
      [skip: why]
    end
  end

  defp program do
    if File.exists?(@unpacked),
      do: Path.expand(@unpacked),
      else: System.find_executable("docker-registry")
  end

  @doc "Who may use a registry with `auth: :basic` or `:token`."
  def user, do: [username: @user, password: @password]

  @doc """
  Starts a registry that keeps what it has in `folder`. `auth:` is `:none`, `:basic` or `:token`; with `tls: true` it has a
  certificate for 127.0.0.1. Gives its port and the options of a load from it.
  """
  def start(folder, opts \\ []) do
    auth = auth(opts[:auth], folder)
    tls = if opts[:tls], do: certificate(folder)
    config = Path.join(folder, "config.yml")
    File.write!(config, [base(folder, tls), auth.config])
    port = run(config)

    http =
      [network: ["127.0.0.1:*"], timeout: 600_000] ++ if(tls, do: [tls: [cacerts: tls]], else: [])

    %{host: "127.0.0.1:#{port}", plain: tls == nil, http: http, push: auth.push}
  end

  defp base(folder, tls) do
    """
    version: 0.1
    log: {level: info, formatter: text}
    storage:
      filesystem: {rootdirectory: "#{folder}/data"}
      delete: {enabled: true}
    http:
      addr: 127.0.0.1:0
    #{if tls, do: "  tls: {certificate: \"#{folder}/cert.pem\", key: \"#{folder}/key.pem\"}"}
    """
  end

  # It says where it listens. It is ended when the VM closes its standard input, however the VM ends.
  defp run(config) do
    script =
      ~S(exec 3<&0; { read -r _ <&3; kill $$; } >/dev/null 2>&1 & exec "$1" serve "$2" 2>&1)

    args = ["-c", script, "sh", program(), config]

    port =
      Port.open({:spawn_executable, "/bin/sh"}, [
        :binary,
        :exit_status,
        {:line, 4_096},
        args: args
      ])

    number = listening(port, [])
    reader = spawn(fn -> receive(do: (:never -> :ok)) end)
    # Somebody has to take what it goes on to say.
    Port.connect(port, reader)
    Process.unlink(port)
    ExUnit.Callbacks.on_exit(fn -> Process.exit(reader, :kill) end)
    number
  end

  defp listening(port, said) do
    receive do
      {^port, {:data, {_eol, line}}} ->
        case Regex.run(~r/listening on 127\.0\.0\.1:(\d+)/, line) do
          [_, number] -> String.to_integer(number)
          nil -> listening(port, [said, line, "\n"])
        end

      {^port, {:exit_status, status}} ->
        ExUnit.Assertions.flunk("docker-registry ended with #{status}:\n#{said}")
    end
  end

  defp certificate(folder) do
    issued = Certificates.issue([{127, 0, 0, 1}])
    {kind, key} = issued.server[:key]
    pem = &File.write!(Path.join(folder, &1), :public_key.pem_encode(&2))
    pem.("cert.pem", [{:Certificate, issued.server[:cert], :not_encrypted}])
    pem.("key.pem", [{kind, key, :not_encrypted}])
    issued.trusted
  end

  defp auth(:basic, folder) do
    path = Path.join(folder, "passwords")
    File.write!(path, "#{@user}:#{@hash}\n")

    %{
      config: "auth: {htpasswd: {realm: test, path: \"#{path}\"}}\n",
      push: [{"authorization", "Basic " <> Base.encode64("#{@user}:#{@password}")}]
    }
  end

  # The realm is a server of the test's, which signs what it is asked for.
  defp auth(:token, folder) do
    issued = Certificates.issue(["issuer"])
    bundle = Path.join(folder, "issuers.pem")

    File.write!(
      bundle,
      :public_key.pem_encode(for der <- issued.trusted, do: {:Certificate, der, :not_encrypted})
    )

    realm =
      serve(fn peer, head ->
        answer(peer, ["{\"token\": \"", sign(scope(head), issued.server), "\"}"])
      end)

    token = sign("repository:acme/thumb:pull,push", issued.server)

    %{
      config:
        "auth: {token: {realm: \"#{realm.url}token?a=b\", service: test, issuer: test, rootcertbundle: \"#{bundle}\"}}\n",
      push: [{"authorization", "Bearer " <> token}]
    }
  end

  defp auth(_none, _folder), do: %{config: "", push: []}

  defp scope(head) do
    %URI{query: query} = URI.parse(path(head))
    %{"scope" => scope, "service" => "test", "a" => "b"} = URI.decode_query(query)
    wrong = header(head, "authorization") -- ["Basic " <> Base.encode64("#{@user}:#{@password}")]
    if wrong == [], do: scope, else: raise("the realm was given #{inspect(wrong)}")
  end

  # A JSON web token: the registry wants the certificate in it.
  defp sign(scope, issuer) do
    ["repository", name, actions] = String.split(scope, ":")
    now = System.os_time(:second)
    actions = actions |> String.split(",") |> Enum.map_join(",", &~s("#{&1}"))
    cert = Base.encode64(issuer[:cert])

    claims =
      ~s({"iss":"test","aud":"test","sub":"","jti":"1","iat":#{now - 60},"nbf":#{now - 60},"exp":#{now + 86_400},) <>
        ~s("access":[{"type":"repository","name":"#{name}","actions":[#{actions}]}]})

    text = encode(~s({"typ":"JWT","alg":"ES256","x5c":["#{cert}"]})) <> "." <> encode(claims)
    text <> "." <> encode(signature(text, issuer[:key]))
  end

  defp signature(text, {kind, key}) do
    der = :public_key.sign(text, :sha256, :public_key.der_decode(kind, key))
    {_, r, s} = :public_key.der_decode(:"ECDSA-Sig-Value", der)
    <<r::256, s::256>>
  end

  defp encode(text), do: Base.url_encode64(text, padding: false)

  @doc """
  Pushes a module as `acme/thumb`, with a tag, as the tools do. `layers:`, `config:` and `kind:` make another artifact of it. Gives the manifest's
  digest.
  """
  def push(registry, tag, bytes, opts \\ []) do
    layers = Keyword.get(opts, :layers, [{"application/wasm", bytes}])
    config = ~s({"architecture":"wasm","os":"wasip1","layerDigests":[]})
    for {_, blob} <- [{nil, config} | layers], do: upload(registry, blob)

    manifest =
      ~s({"schemaVersion":2,"mediaType":"#{@kind}","config":#{part(Keyword.get(opts, :config, @config), config)},) <>
        ~s("layers":[#{Enum.map_join(layers, ",", fn {kind, blob} -> part(kind, blob) end)}]})

    %{status: 201} =
      ask(registry, "PUT", "/manifests/#{tag}", manifest, [{"content-type", @kind}])

    digest(manifest)
  end

  defp upload(registry, blob) do
    response = %{status: 202} = ask(registry, "POST", "/blobs/uploads/", "", [])
    ["http" <> _ = location] = Cybernetic.WASM.HTTP.Response.header(response, "location")
    separator = if location =~ "?", do: "&", else: "?"
    place = location <> separator <> "digest=" <> digest(blob)

    %{status: 201} =
      put(registry, "PUT", place, blob, [{"content-type", "application/octet-stream"}])
  end

  defp ask(registry, method, path, body, headers) do
    scheme = if registry.plain, do: "http", else: "https"
    put(registry, method, "#{scheme}://#{registry.host}/v2/acme/thumb#{path}", body, headers)
  end

  defp put(registry, method, url, body, headers) do
    request = %{method: method, url: url, body: body, headers: registry.push ++ headers}
    {:ok, response} = Client.request(request, registry.http ++ [allow_http: true])
    response
  end

  defp part(kind, blob),
    do: ~s({"mediaType":"#{kind}","digest":"#{digest(blob)}","size":#{byte_size(blob)}})

  @doc "The digest of bytes, as a registry writes it."
  def digest(bytes), do: "sha256:" <> Base.encode16(:crypto.hash(:sha256, bytes), case: :lower)
end
